package udp

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// BatchSize is how many datagrams go with one system call.
	BatchSize = 32
	// maxSize is the largest datagram that there is.
	maxSize = 64 << 10
	// infoSpace is for the control message with a local address: that of IPv6 is the larger one.
	infoSpace = 64
)

// Batch is a number of datagrams, at most BatchSize. They are [Batch.Len] after [Socket.Receive], which puts others into their place.
type Batch struct {
	n       int
	headers [BatchSize]header
	vectors [BatchSize]unix.Iovec
	names   [BatchSize]unix.RawSockaddrInet6
	infos   [BatchSize][infoSpace]byte
	buffer  []byte
}

// header is the kernel's struct mmsghdr.
type header struct {
	unix.Msghdr
	length uint32
}

// batches are large, and in use only while datagrams are moved. Of their memory only as much is real as the datagrams are long.
var batches = sync.Pool{New: func() any { return &Batch{buffer: make([]byte, BatchSize*maxSize)} }}

// TakeBatch returns an empty batch. [Batch.Release] gives it back.
func TakeBatch() *Batch { return batches.Get().(*Batch) }

// Release gives the batch back. Its datagrams are not to be used any more.
func (b *Batch) Release() {
	b.n = 0
	batches.Put(b)
}

// Len is the number of datagrams.
func (b *Batch) Len() int { return b.n }

// Datagram is the content of one, which is the batch's.
func (b *Batch) Datagram(i int) []byte {
	return b.buffer[i*maxSize : i*maxSize+int(b.headers[i].length)]
}

// Size is the length of the datagrams from one to before another, together.
func (b *Batch) Size(from, to int) (size uint64) {
	for i := range b.headers[from:to] {
		size += uint64(b.headers[from+i].length)
	}
	return size
}

// Source is where a datagram came from, Local the address of this host that it was sent to. Neither is an IPv4 address in IPv6 form.
func (b *Batch) Source(i int) netip.AddrPort {
	name := &b.names[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	if name.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), port)
	}
	addr := netip.AddrFrom16(name.Addr)
	if addr.IsLinkLocalUnicast() {
		addr = addr.WithZone(zone(name.Scope_id))
	}
	return netip.AddrPortFrom(addr.Unmap(), port)
}

// Local see [Batch.Source]. It is the zero Addr where the kernel does not say.
func (b *Batch) Local(i int) netip.Addr {
	info := b.infos[i][:b.headers[i].Controllen]
	for len(info) > 0 {
		head, data, rest, err := unix.ParseOneSocketControlMessage(info)
		switch {
		case err != nil:
			return netip.Addr{}
		case head.Level == unix.IPPROTO_IP && head.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// Not the address in the header, which may be a broadcast's.
			return netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Spec_dst)
		case head.Level == unix.IPPROTO_IPV6 && head.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Addr).Unmap()
		}
		info = rest
	}
	return netip.Addr{}
}

// receive fills the batch. info tells that the socket says of each datagram where it came from and was sent to.
func (b *Batch) receive(fd int, info bool) error {
	for i := range b.headers {
		h := &b.headers[i]
		b.vectors[i].Base = &b.buffer[i*maxSize]
		b.vectors[i].SetLen(maxSize)
		h.Msghdr = unix.Msghdr{Iov: &b.vectors[i]}
		h.SetIovlen(1)
		if info {
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(&b.names[i])), unix.SizeofSockaddrInet6
			h.Control = &b.infos[i][0]
			h.SetControllen(infoSpace)
		}
	}
	n, errno := b.call(unix.SYS_RECVMMSG, fd, 0, BatchSize)
	if b.n = n; errno != 0 {
		return errno
	}
	return nil
}

// send sends the datagrams from one to before another, and returns how many the kernel took.
func (b *Batch) send(fd, from, to int, p *Peer) (int, error) {
	for i := from; i < to; i++ {
		h := &b.headers[i]
		b.vectors[i].SetLen(int(h.length))
		h.Msghdr = unix.Msghdr{Iov: &b.vectors[i]}
		h.SetIovlen(1)
		if p != nil {
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(&p.name)), p.nameLength
			if p.infoLength > 0 {
				h.Control = &p.info[0]
				h.SetControllen(p.infoLength)
			}
		}
	}
	lengths := [BatchSize]uint32{}
	for i := from; i < to; i++ {
		lengths[i] = b.headers[i].length // the kernel writes what it sent there
	}
	n, errno := b.call(unix.SYS_SENDMMSG, fd, from, to)
	for i := from; i < to; i++ {
		b.headers[i].length = lengths[i]
	}
	if errno != 0 {
		return 0, errno
	}
	return n, nil
}

// call does not tell the scheduler: none of these calls waits.
func (b *Batch) call(number uintptr, fd, from, to int) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[from])), uintptr(to-from), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
