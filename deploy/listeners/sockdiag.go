package listeners

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The layout of sock_diag(7), of the kernel's include/uapi/linux/inet_diag.h.
const (
	requestLen = 56 // struct inet_diag_req_v2
	messageLen = 72 // struct inet_diag_msg
	attrV6Only = 11 // INET_DIAG_SKV6ONLY
)

// fromSockDiag asks the kernel for the sockets that listen and no others, which costs the same on a host with a hundred
// thousand connections.
func fromSockDiag() ([]Listener, error) {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("sock_diag: socket", err)
	}
	defer unix.Close(socket)
	// The kernel answers at once; this is against waiting forever for one that does not.
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return nil, os.NewSyscallError("sock_diag: setsockopt", err)
	}
	var list []Listener
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if list, err = dump(socket, request(family, unix.IPPROTO_TCP), list); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// request asks for all sockets of the family and the protocol that listen.
func request(family, protocol byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+requestLen)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := b[unix.SizeofNlMsghdr:]
	body[0], body[1] = family, protocol
	binary.NativeEndian.PutUint32(body[4:], 1<<stateListen)
	return b
}

// dump sends a request and appends what the kernel answers to it.
func dump(socket int, request []byte, list []Listener) ([]Listener, error) {
	if err := unix.Sendto(socket, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sock_diag: sendto", err)
	}
	// The kernel fills no more than 32 KiB at a time.
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(socket, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("sock_diag: recvfrom", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return nil, fmt.Errorf("sock_diag: an answer of %d bytes: %w", n, err)
		}
		for _, m := range messages {
			switch m.Header.Type {
			// A kernel without tcp_diag ends the list at once, and only the error number here tells it from an empty one.
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return list, status(m.Data)
			}
			l, err := parse(m.Data)
			if err != nil {
				return nil, err
			}
			list = append(list, l)
		}
	}
}

// status reads the negative error number, or 0, that ends an answer.
func status(data []byte) error {
	if len(data) < 4 {
		return fmt.Errorf("sock_diag: an answer ends with %d bytes instead of 4", len(data))
	}
	if code := -int32(binary.NativeEndian.Uint32(data)); code != 0 {
		return os.NewSyscallError("sock_diag", unix.Errno(code))
	}
	return nil
}

// parse reads a struct inet_diag_msg and its attributes.
func parse(data []byte) (Listener, error) {
	if len(data) < messageLen {
		return Listener{}, fmt.Errorf("sock_diag: a socket in %d bytes instead of %d", len(data), messageLen)
	}
	l := Listener{
		Port:  binary.BigEndian.Uint16(data[4:]),
		UID:   binary.NativeEndian.Uint32(data[64:]),
		Inode: uint64(binary.NativeEndian.Uint32(data[68:])),
	}
	if data[0] == unix.AF_INET {
		l.IP = netip.AddrFrom4([4]byte(data[8:]))
		return l, nil
	}
	l.IP = netip.AddrFrom16([16]byte(data[8:])).Unmap()
	for attrs := data[messageLen:]; len(attrs) > unix.SizeofRtAttr; {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < unix.SizeofRtAttr || size > len(attrs) {
			return l, fmt.Errorf("sock_diag: an attribute of %d bytes in %d", size, len(attrs))
		}
		if binary.NativeEndian.Uint16(attrs[2:]) == attrV6Only && size > unix.SizeofRtAttr {
			l.V6Only = attrs[unix.SizeofRtAttr] != 0
		}
		// Attributes begin at multiples of four.
		attrs = attrs[min((size+3)&^3, len(attrs)):]
	}
	return l, nil
}
