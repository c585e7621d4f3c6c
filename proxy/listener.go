package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
	"dokku-expose/proxy/tcp"
)

const (
	// minBackoff and maxBackoff bound the time between two attempts to accept while the host lacks something for it.
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// listener accepts the connections to one public address, and gives them to the route that has the address at that moment.
type listener struct {
	listen deploy.Listen
	tcp    *tcp.Listener
	route  atomic.Pointer[route]
	limit  *limiter
	log    *slog.Logger
	// count is the limiter's.
	count  int
	closed chan struct{}
}

func newListener(listen deploy.Listen, socket *tcp.Listener, limit *limiter, log *slog.Logger) *listener {
	return &listener{listen: listen, tcp: socket, limit: limit, log: log, closed: make(chan struct{})}
}

// close stops accepting. Connections go on.
func (l *listener) close() error {
	close(l.closed)
	return l.tcp.Close()
}

func (l *listener) run() {
	backoff := minBackoff
	for {
		for full := l.limit.full(&l.count); full != nil; full = l.limit.full(&l.count) {
			select {
			case <-full:
			case <-l.closed:
				return
			}
		}
		client, err := l.tcp.Accept()
		switch {
		case err == nil:
			backoff = minBackoff
			l.limit.begin(&l.count)
			go l.serve(client)
			continue
		case errors.Is(err, os.ErrClosed):
			return
		}
		// The client waits in the kernel's queue meanwhile. Some other connection may end, or this was for one client only.
		if backoff == minBackoff {
			l.log.Error("can't accept connections for now", "port", l.listen.String(), "error", err)
		}
		select {
		case <-time.After(backoff):
		case <-l.closed:
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func (l *listener) serve(client *tcp.Conn) {
	defer l.limit.end(&l.count)
	for {
		r := l.route.Load()
		if r.serve(client) {
			return
		}
		if l.route.Load() == r {
			client.Close()
			return
		}
		// The address has gone over to another app since the connection was accepted.
	}
}

// listen opens a public address. The error says who holds it.
func listen(address deploy.Listen) (*tcp.Listener, error) {
	socket, err := tcp.Listen(address.IP, address.Port)
	switch {
	case err == nil:
		return socket, nil
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("%s holds the port already; stop it, or use another port: %w", holder(address), err)
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("the daemon may not listen on ports below 1024: its service has to give it CAP_NET_BIND_SERVICE: %w", err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s is no address of this host; `ip address` lists them: %w", address.IP, err)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return nil, fmt.Errorf("too many files are open; raise the limit where the daemon is started (LimitNOFILE of a systemd unit, ulimit -n): %w", err)
	}
	return nil, err
}

// holder names the process that listens where address can't be bound.
func holder(address deploy.Listen) string {
	all, err := listeners.List()
	if err == nil {
		for _, l := range all {
			if l.Conflicts(address) {
				return listeners.Who(l)
			}
		}
	}
	return "another process"
}
