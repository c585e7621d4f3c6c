package udp

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bufferSize is how many bytes wait in the kernel for a socket that many clients send to, while the one who reads has others to look
// after or hands over to a successor.
const bufferSize = 1 << 20

// Socket is a socket of UDP.
type Socket struct {
	fd   int
	info bool
	// four tells that it takes addresses of IPv4, and not those of IPv6.
	four bool
}

// Listen opens a public address. The zero ip stands for every address of the host, IPv4 and IPv6, or IPv4 only where the host has no
// IPv6; :: for every IPv6 address. An error of the system call is wrapped (EADDRINUSE, EACCES).
func Listen(ip netip.Addr, port uint16) (*Socket, error) {
	network, host := "udp", ""
	switch {
	case !ip.IsValid():
	case ip.Is4():
		network, host = "udp4", ip.String()
	default:
		network, host = "udp6", ip.String()
	}
	config := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = options(int(fd), network) }), err)
	}}
	conn, err := config.ListenPacket(context.Background(), network, net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("listening gave a %T", conn)
	}
	return duplicate(socket)
}

// options of a socket that clients send to. Replies come from the address that they sent to, so each datagram has to tell it.
func options(fd int, network string) error {
	// The right to have more than net.core.rmem_max is rare, and nothing depends on it.
	for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], bufferSize) != nil {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[1], bufferSize); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
	}
	if network == "udp4" {
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
}

// NewSocket makes a socket of one that another process opened with Listen. It takes over the file.
func NewSocket(file *os.File) (*Socket, error) {
	s, err := duplicate(file)
	return s, errors.Join(err, file.Close())
}

// duplicate makes a descriptor of its own for the socket, which the runtime does not watch.
func duplicate(socket syscall.Conn) (*Socket, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Socket{fd: -1, info: true}
	var dupErr error
	err = raw.Control(func(fd uintptr) {
		kind, kindErr := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
		domain, domainErr := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		s.four = domain == unix.AF_INET
		switch optErr := cmp.Or(kindErr, domainErr); {
		case optErr != nil:
			dupErr = os.NewSyscallError("getsockopt", optErr)
		case kind != unix.SOCK_DGRAM:
			dupErr = errors.New("the socket is none of UDP")
		default:
			s.fd, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		}
	})
	if err = errors.Join(err, dupErr); err != nil {
		return nil, err
	}
	return s, nil
}

// Dial opens a socket whose datagrams go to one address, and come from there. An error is that of a system call: it asks nobody.
func Dial(addr netip.AddrPort) (*Socket, error) {
	family := unix.AF_INET6
	if addr.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, sockaddr(addr)); err != nil {
		return nil, errors.Join(os.NewSyscallError("connect", err), unix.Close(fd))
	}
	return &Socket{fd: fd}, nil
}

// Adopt makes a socket of one that another process opened with Dial. It takes over the file. The error says that it is another one.
func Adopt(file *os.File, addr netip.AddrPort) (*Socket, error) {
	s, err := NewSocket(file)
	if err != nil {
		return nil, err
	}
	s.info = false
	peer, err := unix.Getpeername(s.fd)
	if err == nil && addrPort(peer) != addr {
		err = fmt.Errorf("it leads to %s", addrPort(peer))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the socket of a session with %s: %w", addr, err), s.Close())
	}
	return s, nil
}

func sockaddr(addr netip.AddrPort) unix.Sockaddr {
	if ip := addr.Addr(); ip.Is4() {
		return &unix.SockaddrInet4{Addr: ip.As4(), Port: int(addr.Port())}
	}
	return &unix.SockaddrInet6{Addr: addr.Addr().As16(), Port: int(addr.Port())}
}

func addrPort(addr unix.Sockaddr) netip.AddrPort {
	switch a := addr.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// FD is the descriptor, for being watched.
func (s *Socket) FD() int { return s.fd }

// Receive puts what waits into the batch. The error is EAGAIN when nothing does, ECONNREFUSED when the other end has said that nobody gets
// what was sent.
func (s *Socket) Receive(b *Batch) error { return b.receive(s.fd, s.info) }

// Send sends those datagrams of a batch from one to before another, to p, or where the socket leads to. It returns how many the kernel
// took.
func (s *Socket) Send(b *Batch, from, to int, p *Peer) (int, error) { return b.send(s.fd, from, to, p) }

// SendOne sends one datagram where the socket leads to.
func (s *Socket) SendOne(datagram []byte) error {
	return unix.Sendto(s.fd, datagram, unix.MSG_DONTWAIT, nil)
}

// Close closes the socket.
func (s *Socket) Close() error { return os.NewSyscallError("close", unix.Close(s.fd)) }

// SyscallConn implements [syscall.Conn], for passing the socket to another process: only Control works.
func (s *Socket) SyscallConn() (syscall.RawConn, error) { return rawSocket{s}, nil }

type rawSocket struct{ *Socket }

func (s rawSocket) Control(f func(fd uintptr)) error {
	f(uintptr(s.fd))
	return nil
}

func (rawSocket) Read(func(fd uintptr) bool) error { return errors.ErrUnsupported }

func (rawSocket) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }

// Peer is a client of a public address: where it gets its datagrams, and from which address of this host. It has the form in which the
// kernel takes it.
type Peer struct {
	name       unix.RawSockaddrInet6
	nameLength uint32
	info       [infoSpace]byte
	infoLength int
}

// NewPeer is the client for datagrams through s. The zero local leaves the address to the kernel.
func (s *Socket) NewPeer(client netip.AddrPort, local netip.Addr) *Peer {
	p := new(Peer)
	if s.four {
		to := (*unix.RawSockaddrInet4)(unsafe.Pointer(&p.name))
		to.Family, to.Addr = unix.AF_INET, client.Addr().As4()
		p.nameLength = unix.SizeofSockaddrInet4
		if local.IsValid() {
			data := p.control(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
			(*unix.Inet4Pktinfo)(data).Spec_dst = local.As4()
		}
	} else {
		p.name.Family, p.name.Addr = unix.AF_INET6, client.Addr().As16()
		p.nameLength = unix.SizeofSockaddrInet6
		if index, err := strconv.ParseUint(client.Addr().Zone(), 10, 32); err == nil {
			p.name.Scope_id = uint32(index)
		}
		if local.IsValid() {
			data := p.control(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
			(*unix.Inet6Pktinfo)(data).Addr = local.As16()
		}
	}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&p.name.Port))[:], client.Port())
	return p
}

// control begins the control message, and returns where its content goes.
func (p *Peer) control(level, kind int32, size int) unsafe.Pointer {
	head := (*unix.Cmsghdr)(unsafe.Pointer(&p.info[0]))
	head.Level, head.Type = level, kind
	head.SetLen(unix.CmsgLen(size))
	p.infoLength = unix.CmsgSpace(size)
	return unsafe.Pointer(&p.info[unix.CmsgLen(0)])
}

// zone is the zone of a link-local address, as its interface's number.
func zone(index uint32) string { return strconv.FormatUint(uint64(index), 10) }
