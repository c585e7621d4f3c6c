package proxy

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
)

// lackPause is the shortest time between two lines of the log about what this host lacks: thousands of clients may be concerned.
const lackPause = 10 * time.Second

// lacks tells of attempts to connect that failed for a lack of this host's, see [isLocal].
type lacks struct {
	log *slog.Logger

	mu   sync.Mutex
	told time.Time
}

func (l *lacks) tell(app string, listen deploy.Listen, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.told) < lackPause {
		return
	}
	l.told = time.Now()
	l.log.Error("can't connect clients to containers for now", "app", app, "port", listen.String(), "error", err, "remedy", remedy(err))
}

func remedy(err error) string {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return "all local ports to that address are in use: have more containers (dokku ps:scale), or more ports (sysctl net.ipv4.ip_local_port_range)"
	case errors.Is(err, unix.EMFILE):
		return "let the daemon's service have more open files (LimitNOFILE)"
	case errors.Is(err, unix.ENOSPC):
		return "let a user watch more connections with epoll (sysctl fs.epoll.max_user_watches)"
	case errors.Is(err, unix.ENFILE):
		return "let the host have more open files (sysctl fs.file-max)"
	}
	return "let the host have more memory for connections (sysctl net.ipv4.tcp_mem)"
}
