package listeners

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
)

// The layout of sock_diag(7), of the kernel's include/uapi/linux/inet_diag.h.
const (
	requestLen = 56 // struct inet_diag_req_v2
	messageLen = 72 // struct inet_diag_msg
	attrV6Only = 11 // INET_DIAG_SKV6ONLY
)

// fromSockDiag asks the kernel for the sockets of a protocol in some states, as a mask, and no others: to ask for those that listen costs
// the same on a host with a hundred thousand connections.
func fromSockDiag(proto deploy.Proto, states uint32) ([]socket, error) {
	netlink, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("sock_diag: socket", err)
	}
	defer unix.Close(netlink)
	// The kernel answers at once; this is against waiting forever for one that does not.
	if err := unix.SetsockoptTimeval(netlink, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return nil, os.NewSyscallError("sock_diag: setsockopt", err)
	}
	protocol := byte(unix.IPPROTO_TCP)
	if proto == deploy.UDP {
		protocol = unix.IPPROTO_UDP
	}
	var list []socket
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if list, err = dump(netlink, request(family, protocol, states), list); err != nil {
			return nil, err
		}
	}
	for i := range list {
		list[i].proto = proto
	}
	return list, nil
}

// request asks for all sockets of the family and the protocol in the states.
func request(family, protocol byte, states uint32) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+requestLen)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := b[unix.SizeofNlMsghdr:]
	body[0], body[1] = family, protocol
	binary.NativeEndian.PutUint32(body[4:], states)
	return b
}

// dump sends a request and appends what the kernel answers to it.
func dump(netlink int, request []byte, list []socket) ([]socket, error) {
	if err := unix.Sendto(netlink, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sock_diag: sendto", err)
	}
	// The kernel fills no more than 32 KiB at a time.
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(netlink, buffer, 0)
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
			// A kernel without tcp_diag or udp_diag ends the list at once, and only the error number here tells it from an empty one.
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return list, status(m.Data)
			}
			s, err := parse(m.Data)
			if err != nil {
				return nil, err
			}
			list = append(list, s)
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
func parse(data []byte) (socket, error) {
	if len(data) < messageLen {
		return socket{}, fmt.Errorf("sock_diag: a socket in %d bytes instead of %d", len(data), messageLen)
	}
	address := func(at int) netip.Addr {
		if data[0] == unix.AF_INET {
			return netip.AddrFrom4([4]byte(data[at:]))
		}
		return netip.AddrFrom16([16]byte(data[at:])).Unmap()
	}
	s := socket{
		state:  data[1],
		local:  netip.AddrPortFrom(address(8), binary.BigEndian.Uint16(data[4:])),
		remote: netip.AddrPortFrom(address(24), binary.BigEndian.Uint16(data[6:])),
		uid:    binary.NativeEndian.Uint32(data[64:]),
		inode:  uint64(binary.NativeEndian.Uint32(data[68:])),
	}
	for attrs := data[messageLen:]; len(attrs) > unix.SizeofRtAttr; {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < unix.SizeofRtAttr || size > len(attrs) {
			return s, fmt.Errorf("sock_diag: an attribute of %d bytes in %d", size, len(attrs))
		}
		if binary.NativeEndian.Uint16(attrs[2:]) == attrV6Only && size > unix.SizeofRtAttr {
			s.v6Only = attrs[unix.SizeofRtAttr] != 0
		}
		// Attributes begin at multiples of four.
		attrs = attrs[min((size+3)&^3, len(attrs)):]
	}
	return s, nil
}
