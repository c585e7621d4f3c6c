package listeners

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/internal/need"
)

// isolated runs f in a network namespace of its own, where nobody else binds or connects. Sockets that f opens are in it as
// long as f opens them on the goroutine that it is called on.
func isolated(t *testing.T, f func()) {
	t.Helper()
	need.Root(t)
	done := make(chan error)
	go func() {
		var err error
		defer func() { done <- err }()
		// Never unlocked: the thread ends with the goroutine, and its namespace with it.
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		if err = loopbackUp(); err == nil {
			f()
		}
	}()
	switch err := <-done; {
	case errors.Is(err, unix.EPERM):
		t.Skipf("this root may not make a network namespace: %v", err)
	case err != nil:
		t.Fatalf("a network namespace: %v", err)
	}
}

func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

// kind is a way to bind a socket.
type kind struct {
	network, ip string
	mapped      bool
}

func (k kind) String() string {
	if k.mapped {
		return "::ffff:" + k.ip
	}
	return strings.TrimSpace(k.network + " " + k.ip)
}

// over is the same way for a socket of that protocol.
func (k kind) over(proto deploy.Proto) kind {
	if proto == deploy.UDP {
		k.network = strings.Replace(k.network, "tcp", "udp", 1)
	}
	return k
}

func (k kind) proto() deploy.Proto {
	if strings.HasPrefix(k.network, "udp") {
		return deploy.UDP
	}
	return deploy.TCP
}

// datagrams is a bound UDP socket, which accepts nothing.
type datagrams struct{ net.PacketConn }

func (d datagrams) Addr() net.Addr          { return d.LocalAddr() }
func (datagrams) Accept() (net.Conn, error) { return nil, errors.ErrUnsupported }

// bind listens on the port, 0 for any free one. The socket has the options that share a port.
func (k kind) bind(port uint16, share ...int) (net.Listener, error) {
	if k.mapped {
		return k.bindMapped(port)
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var errs []error
		err := c.Control(func(fd uintptr) {
			for _, option := range share {
				errs = append(errs, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, 1))
			}
		})
		return errors.Join(append(errs, err)...)
	}}
	addr := netip.AddrPortFrom(netip.MustParseAddr(k.ip), port).String()
	if k.proto() == deploy.UDP {
		conn, err := config.ListenPacket(context.Background(), k.network, addr)
		return datagrams{conn}, err
	}
	return config.Listen(context.Background(), k.network, addr)
}

// bindMapped listens for IPv4 on an IPv6 socket, which package net never does.
func (k kind) bindMapped(port uint16) (net.Listener, error) {
	socketType := unix.SOCK_STREAM
	if k.proto() == deploy.UDP {
		socketType = unix.SOCK_DGRAM
	}
	socket, err := unix.Socket(unix.AF_INET6, socketType|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(socket), "mapped")
	defer file.Close()
	addr := netip.AddrFrom16(netip.MustParseAddr(k.ip).As16()).As16()
	if err := errors.Join(
		unix.SetsockoptInt(socket, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0),
		unix.Bind(socket, &unix.SockaddrInet6{Addr: addr, Port: int(port)}),
	); err != nil {
		return nil, err
	}
	if k.proto() == deploy.UDP {
		conn, err := net.FilePacketConn(file)
		return datagrams{conn}, err
	}
	if err := unix.Listen(socket, 16); err != nil {
		return nil, err
	}
	return net.FileListener(file)
}

var (
	v4Loopback = kind{network: "tcp4", ip: "127.0.0.1"}
	v4Other    = kind{network: "tcp4", ip: "127.0.0.2"}
	v4All      = kind{network: "tcp4", ip: "0.0.0.0"}
	v6Loopback = kind{network: "tcp6", ip: "::1"}
	v6All      = kind{network: "tcp6", ip: "::"}
	dual       = kind{network: "tcp", ip: "::"}
	mapped     = kind{network: "tcp6", ip: "127.0.0.1", mapped: true}
	mappedAll  = kind{network: "tcp6", ip: "0.0.0.0", mapped: true}
)

var protos = []deploy.Proto{deploy.TCP, deploy.UDP}

// usable are the kinds that the kernel can bind, for each protocol: one without IPv6 is fine too.
func usable(kinds ...kind) []kind {
	probe, err := v6Loopback.bind(0)
	if err == nil {
		probe.Close()
	}
	var all []kind
	for _, proto := range protos {
		for _, k := range kinds {
			if err == nil || k.network == "tcp4" {
				all = append(all, k.over(proto))
			}
		}
	}
	return all
}

func port(l net.Listener) uint16 { return netip.MustParseAddrPort(l.Addr().String()).Port() }

// sources are the two ways to the same list.
var sources = []struct {
	name string
	list func(proto deploy.Proto, states uint32) ([]socket, error)
	// v6Only tells that the source knows it.
	v6Only bool
}{
	{"sock_diag", fromSockDiag, true},
	{"proc", fromProc, false},
}

func TestListsAreWhole(t *testing.T) {
	isolated(t, func() {
		var want []Listener
		for _, k := range usable(v4Loopback, v4Other, v4All, v6Loopback, v6All, dual, mapped, mappedAll) {
			l, err := k.bind(0)
			if err != nil {
				t.Errorf("%s: %v", k, err)
				return
			}
			defer l.Close()
			want = append(want, Listener{Proto: k.proto(), IP: netip.MustParseAddr(k.ip), Port: port(l), V6Only: slices.Contains(usable(v6All, v6Loopback), k)})
		}
		// Two sockets of one address, and a connection, which is in the kernel's tables too and listens nowhere.
		for _, k := range usable(v4Loopback) {
			shared, err := k.bind(0, unix.SO_REUSEPORT)
			if err != nil {
				t.Error(err)
				return
			}
			defer shared.Close()
			again, err := k.bind(port(shared), unix.SO_REUSEPORT)
			if err != nil {
				t.Error(err)
				return
			}
			defer again.Close()
			for range 2 {
				want = append(want, Listener{Proto: k.proto(), IP: netip.MustParseAddr(k.ip), Port: port(shared)})
			}
			conn, err := net.Dial(k.network, shared.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
		}
		slices.SortFunc(want, order)

		for _, source := range sources {
			got, err := listFrom(source.list)
			if err != nil {
				t.Errorf("%s: %v", source.name, err)
				continue
			}
			slices.SortFunc(got, order)
			var inodes []uint64
			for i := range got {
				inodes = append(inodes, got[i].Inode)
				got[i].Inode = 0
				if got[i].IP == netip.IPv6Unspecified() && !source.v6Only {
					got[i].V6Only = slices.Contains(want, Listener{Proto: got[i].Proto, IP: got[i].IP, Port: got[i].Port, V6Only: true})
				}
				// What a socket of one IPv6 address says does not matter, and differs between kernels.
				got[i].V6Only = got[i].V6Only || got[i].IP == netip.IPv6Loopback()
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %v\nwant %v", source.name, got, want)
			}
			slices.Sort(inodes)
			if len(slices.Compact(inodes)) != len(want) || inodes[0] == 0 {
				t.Errorf("%s: inodes %v, want %d different ones", source.name, inodes, len(want))
			}
		}
	})
}

func order(a, b Listener) int {
	return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port), a.IP.Compare(b.IP))
}

// The kernel is asked whether a public address can be bound beside a listener, and Conflicts has to say the same.
func TestConflictsAsTheKernelSays(t *testing.T) {
	wanted := []struct {
		listen string
		// binds are what an engine binds for it.
		binds []kind
	}{
		{"", []kind{v4All, v6All}},
		{"0.0.0.0", []kind{v4All}},
		{"::", []kind{v6All}},
		{"127.0.0.1", []kind{v4Loopback}},
		{"127.0.0.2", []kind{v4Other}},
		{"::1", []kind{v6Loopback}},
	}
	isolated(t, func() {
		for _, k := range usable(v4Loopback, v4All, v6Loopback, v6All, dual, mapped, mappedAll) {
			listener, err := k.bind(0)
			if err != nil {
				t.Errorf("%s: %v", k, err)
				continue
			}
			for _, w := range wanted {
				listen := deploy.Frontend{Proto: k.proto(), Port: port(listener)}
				if w.listen != "" {
					listen.IP = netip.MustParseAddr(w.listen)
				}
				binds := slices.DeleteFunc(usable(w.binds...), func(b kind) bool { return b.proto() != k.proto() })
				if len(binds) == 0 {
					continue
				}
				taken := false
				for _, b := range binds {
					beside, err := b.bind(port(listener))
					switch {
					case err == nil:
						beside.Close()
					case errors.Is(err, unix.EADDRINUSE):
						taken = true
					default:
						t.Errorf("%s beside %s: %v", b, k, err)
					}
				}
				for _, source := range sources {
					list, err := listFrom(source.list)
					if err != nil || len(list) != 1 {
						t.Errorf("%s: %v, %v, want one listener", source.name, list, err)
						continue
					}
					// Where V6Only is not known, a conflict is what there has to be.
					unknown := k == v6All.over(k.proto()) && !source.v6Only
					if got := list[0].Conflicts(listen); got != taken && !(unknown && got) {
						t.Errorf("%s: %s beside %s: conflict %v, and the kernel says %v", source.name, listen, k, got, taken)
					}
					for _, other := range []deploy.Frontend{
						{Proto: listen.Proto, IP: listen.IP, Port: listen.Port ^ 1},
						{Proto: listen.Proto ^ deploy.UDP, IP: listen.IP, Port: listen.Port},
					} {
						if list[0].Conflicts(other) || list[0].Is(other) {
							t.Errorf("%s: %s conflicts with %s", source.name, k, other)
						}
					}
				}
			}
			listener.Close()
		}
	})
}

func TestConflictsIgnoresForms(t *testing.T) {
	listener := func(ip string) Listener { return Listener{IP: netip.MustParseAddr(ip), Port: 25} }
	for _, row := range []struct {
		name     string
		listener Listener
		listen   string
		want     bool
	}{
		{"IPv4 in its IPv6 form", listener("192.0.2.1"), "::ffff:192.0.2.1", true},
		{"a zone that only one names", listener("fe80::1"), "fe80::1%eth0", true},
		{"another address", listener("192.0.2.1"), "192.0.2.2", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := row.listener.Conflicts(deploy.Frontend{IP: netip.MustParseAddr(row.listen), Port: 25}); got != row.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// A kernel without tcp_diag does not refuse the request: it ends an empty list with an error number.
func TestSockDiagOfAnUnknownProtocol(t *testing.T) {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		t.Skipf("no sock_diag here: %v", err)
	}
	defer unix.Close(socket)
	if list, err := dump(socket, request(unix.AF_INET, unix.IPPROTO_IGMP, 1<<stateListen), nil); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v, %v, want ENOENT", list, err)
	}
}

// The hooks run as user dokku, and most listeners are root's.
func TestUnprivileged(t *testing.T) {
	if addrs := os.Getenv("DOKKU_EXPOSE_TEST_LISTENERS"); addrs != "" {
		for i, addr := range strings.Fields(addrs) {
			if l := lookup(t, protos[i], addr); l.UID != 0 || Who(l) != "a process of user root" {
				t.Errorf("%s: got %+v, %q", addr, l, Who(l))
			}
		}
		return
	}
	need.Root(t)
	var addrs []string
	for _, proto := range protos {
		listener, err := v4Loopback.over(proto).bind(0)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		addrs = append(addrs, listener.Addr().String())
	}
	again := exec.Command("/proc/self/exe", "-test.run=^TestUnprivileged$", "-test.v")
	again.Dir = "/"
	again.Env = []string{"DOKKU_EXPOSE_TEST_LISTENERS=" + strings.Join(addrs, " ")}
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

// lookup finds the listener in the list.
func lookup(t *testing.T, proto deploy.Proto, addr string) Listener {
	t.Helper()
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(addr)
	i := slices.IndexFunc(list, func(l Listener) bool { return l.Proto == proto && l.IP == at.Addr() && l.Port == at.Port() })
	if i < 0 {
		t.Fatalf("%s is not in the list", addr)
	}
	return list[i]
}

func TestWho(t *testing.T) {
	listener, err := v4Loopback.bind(0)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	found := lookup(t, deploy.TCP, listener.Addr().String())
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name     string
		listener Listener
		want     string
	}{
		{"this process", found, fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), os.Getpid())},
		{"a socket that no process has open", Listener{UID: 0}, "a process of user root"},
		{"a socket that is gone", Listener{UID: 0, Inode: 1}, "a process of user root"},
		{"a user without a name", Listener{UID: 3999999999}, "a process of user id 3999999999"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := Who(row.listener); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestTakenBy(t *testing.T) {
	for _, row := range []struct {
		kind    kind
		command string
	}{
		{v4Loopback, "(ss -ltnp 'sport = :%d' names it)"},
		{v4Loopback.over(deploy.UDP), "(ss -lunp 'sport = :%d' names it)"},
	} {
		t.Run(row.kind.String(), func(t *testing.T) {
			listener, err := row.kind.bind(0)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			found := lookup(t, row.kind.proto(), listener.Addr().String())
			want := fmt.Sprintf("(pid %d) listens on it already; use another public port, or stop that process "+row.command, os.Getpid(), found.Port)
			if err := TakenBy(found.Listen(), []Listener{found}, nil); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
			if err := TakenBy(found.Listen(), []Listener{found}, []deploy.Frontend{found.Listen()}); err != nil {
				t.Errorf("the own socket: %v", err)
			}
			if err := listener.Close(); err != nil {
				t.Fatal(err)
			}
			if err := TakenBy(found.Listen(), []Listener{found}, nil); err != nil {
				t.Errorf("one that has closed: %v", err)
			}
		})
	}
}

// Sockets that would share a port with another one of their kind have it nevertheless.
func TestTryBindBesideOneThatShares(t *testing.T) {
	isolated(t, func() {
		for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
			for _, proto := range protos {
				sharing, err := v4Loopback.over(proto).bind(0, option)
				if err != nil {
					t.Error(err)
					return
				}
				taken := deploy.Frontend{Proto: proto, Port: port(sharing)}
				if err := TryBind(taken); err != ErrInUse {
					t.Errorf("%s beside option %d: %v", taken, option, err)
				}
				if err := sharing.Close(); err != nil {
					t.Error(err)
				}
				if err := TryBind(taken); err != nil {
					t.Errorf("%s once it is free: %v", taken, err)
				}
			}
		}
	})
}

// A listener that may be Dokku's nginx comes with what frees its port.
func TestTakenByNginx(t *testing.T) {
	listener, err := v4Loopback.bind(0)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	own := lookup(t, deploy.TCP, listener.Addr().String())
	const reload = "dokku nginx:reload"
	if got := Taken(own).Error(); strings.Contains(got, reload) || !strings.Contains(got, fmt.Sprintf("'sport = :%d'", own.Port)) {
		t.Errorf("by another process: %q", got)
	}
	const name = "/proc/self/comm"
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	rename := func(to []byte) {
		if err := os.WriteFile(name, to, 0); err != nil {
			t.Fatal(err)
		}
	}
	rename([]byte("nginx"))
	defer rename(before)
	if got := Taken(own).Error(); !strings.HasPrefix(got, "nginx (pid ") || !strings.Contains(got, "; nginx keeps") || !strings.HasSuffix(got, reload) {
		t.Errorf("by nginx: %q", got)
	}
	if got := Taken(Listener{UID: 0, Port: 80}).Error(); !strings.Contains(got, "; if it is nginx: ") || !strings.HasSuffix(got, reload) {
		t.Errorf("by a process that this user may not look into: %q", got)
	}
	if got := Taken(Listener{UID: 3999999999, Port: 80}).Error(); strings.Contains(got, reload) {
		t.Errorf("by a process of another user: %q", got)
	}
}

// Whose sockets they are is told by open files, and where these can't be seen by users.
func TestProcessesOfListeners(t *testing.T) {
	for _, k := range usable(v4Loopback) {
		ln, err := k.bind(0)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		own := lookup(t, k.proto(), ln.Addr().String())
		const nobody = 1 << 30
		inodes, seen := Open([]int{nobody, os.Getpid()})
		if !seen || !inodes[own.Inode] {
			t.Errorf("%v, %v: the own socket %d of %s is not among those that are open", inodes, seen, own.Inode, k)
		}
		if users := Users([]int{nobody, os.Getpid()}); !slices.Equal(users, []uint32{own.UID}) {
			t.Errorf("users %v, want %d", users, own.UID)
		}
	}
}
