package host

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxLog is the size in bytes at which the daemon renames the log and a new one begins; the one renamed before that goes.
	maxLog = 1 << 20
	// rotatePause is the time between two looks at the log's size.
	rotatePause = time.Minute
)

// eventLog is a file that hooks, commands and the daemon append lines to, each in a process of its own and without a lock.
//
// O_APPEND is enough for that: on a file system of this host Linux looks for the end of the file and writes all bytes of one write
// call there under the lock of the inode, so that lines neither mix nor overwrite each other. A line is one write call. Only the
// daemon renames the file; a process that opened it before that writes into the renamed one, which is read as well. While no daemon
// runs the file grows.
type eventLog struct {
	path string
}

func (h *Host) EventLog() eventLog { return eventLog{filepath.Join(h.Env.DataDir(), "events.log")} }

// former is the path of the renamed log.
func (l eventLog) former() string { return l.path + ".1" }

// Write appends a line. It never fails: the event has happened, and the hook that reports it must go on, whether there is room for
// the line or not. Users of a command read the event in its output, and the daemon's events are in the service manager's log too.
func (l eventLog) Write(line []byte) (int, error) {
	_ = l.write(line)
	return len(line), nil
}

func (l eventLog) write(line []byte) (err error) {
	file, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	// Not file.Write, which writes the rest of a short write in a second call, after the lines of others.
	n, err := unix.Write(int(file.Fd()), line)
	if n <= 0 || n == len(line) {
		return err
	}
	// The disk is full. Half a line would be the beginning of the next one.
	return errors.Join(io.ErrShortWrite, cutOff(file, n))
}

// cutOff removes the n bytes that were written last to file, unless others have written after them.
func cutOff(file *os.File, n int) error {
	end, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil || info.Size() != end {
		return err
	}
	return file.Truncate(end - int64(n))
}

// KeepSmall renames the log whenever it is larger than maxLog, until ctx ends. Only the daemon that reconciles calls it: of two
// processes the second could rename the new file over the one that the first has just renamed.
func (l eventLog) KeepSmall(ctx context.Context, log *slog.Logger) {
	var told string
	for {
		if err := l.rotate(); err == nil {
			told = ""
		} else if err.Error() != told {
			told = err.Error()
			log.Error("the log of events grows without bound", "error", err)
		}
		if !Sleep(ctx, rotatePause) {
			return
		}
	}
}

func (l eventLog) rotate() error {
	info, err := os.Stat(l.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() <= maxLog {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Rename(l.path, l.former())
}
