package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxMessage bounds a message: far more than the table of a host with ten thousand ports.
	maxMessage = 16 << 20
	// filesAtOnce is how many descriptors go with one piece of a message. Each is open twice until it is sent, and the server's limit of
	// connections leaves the process few others.
	filesAtOnce = 32
	// mostAtOnce is the kernel's limit (SCM_MAX_FD), which other versions of this program may use in full.
	mostAtOnce = 253
	// maxFiles bounds the descriptors that come with a message: more than there are ports.
	maxFiles = 1 << 17
	// callTimeout bounds the time that either side of the control socket waits for the other.
	callTimeout = 15 * time.Second
)

// wire carries messages over a Unix socket: each is a line of JSON, and files may come with it. Only one side speaks at a time.
type wire struct {
	conn *net.UnixConn
	// protocol is what this side knows.
	protocol protocol
}

// exchange sends a request and receives the response. The files that come with it are the caller's.
func (w wire) exchange(r request) (response, []*os.File, error) {
	r.Protocol = w.protocol.versionOf(r.Call)
	if err := w.send(r); err != nil {
		return response{}, nil, err
	}
	line, files, err := w.receive()
	if err != nil {
		return response{}, nil, err
	}
	var answer response
	if err := json.Unmarshal(line, &answer); err != nil {
		closeFiles(files)
		return response{}, nil, fmt.Errorf("the daemon's answer can't be read: %w", err)
	}
	return answer, files, nil
}

// send writes a message. The files stay the caller's.
func (w wire) send(message any, files ...syscall.Conn) error {
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	// Files need a byte to go with; a blank before the message means nothing.
	for len(files) > 0 {
		n := min(filesAtOnce, len(files))
		if err := w.sendFiles(files[:n]); err != nil {
			return err
		}
		files = files[n:]
	}
	_, err = w.conn.Write(append(line, '\n'))
	return err
}

func (w wire) sendFiles(files []syscall.Conn) (err error) {
	var fds []int
	// Duplicates, since a descriptor is known to stay open only as long as its owner is asked for it.
	defer func() {
		for _, fd := range fds {
			err = errors.Join(err, unix.Close(fd))
		}
	}()
	for _, file := range files {
		raw, err := file.SyscallConn()
		if err != nil {
			return err
		}
		var fd int
		var dupErr error
		if err := raw.Control(func(open uintptr) { fd, dupErr = unix.FcntlInt(open, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
			return err
		}
		if dupErr != nil {
			return os.NewSyscallError("fcntl", dupErr)
		}
		fds = append(fds, fd)
	}
	_, _, err = w.conn.WriteMsgUnix([]byte(" "), unix.UnixRights(fds...), nil)
	return err
}

// receive reads a message. The files that came with it are the caller's. The error is io.EOF when the other side has closed
// instead.
func (w wire) receive() (line []byte, files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeFiles(files)
			files = nil
		}
	}()
	chunk := make([]byte, 64<<10)
	rights := make([]byte, unix.CmsgSpace(mostAtOnce*4))
	for {
		n, rightsLen, flags, _, err := w.conn.ReadMsgUnix(chunk, rights)
		if err != nil {
			return nil, files, err
		}
		got, err := filesOf(rights[:rightsLen])
		files = append(files, got...)
		switch {
		case err != nil:
			return nil, files, err
		case flags&unix.MSG_CTRUNC != 0:
			return nil, files, errors.New("descriptors got lost: too many files are open")
		case n == 0 && len(line) == 0:
			return nil, files, io.EOF
		case n == 0:
			return nil, files, io.ErrUnexpectedEOF
		case len(line)+n > maxMessage, len(files) > maxFiles:
			return nil, files, fmt.Errorf("a message of more than %d bytes or with more than %d files", maxMessage, maxFiles)
		}
		line = append(line, chunk[:n]...)
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			if end != len(line)-1 {
				return nil, files, errors.New("more than one message at a time")
			}
			return line[:end], files, nil
		}
	}
}

func filesOf(rights []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, os.NewSyscallError("recvmsg", err)
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
