package proxy

import (
	"log/slog"
	"sync"
	"time"

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

func (l *lacks) tell(app string, listen deploy.Frontend, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.told) < lackPause {
		return
	}
	l.told = time.Now()
	remedy, _ := deploy.HostLack(err)
	l.log.Error("can't connect clients to containers for now", "app", app, "port", listen.String(), "error", err, "remedy", remedy)
}
