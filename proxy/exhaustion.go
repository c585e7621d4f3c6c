package proxy

import (
	"log/slog"
	"sync"
	"time"

	"dokku-expose/deploy"
)

// exhaustionPause is the shortest time between two such lines of the log: a shortage concerns thousands of clients.
const exhaustionPause = 10 * time.Second

// exhaustionLog reports attempts to connect that failed because this host has run out of something, see [isExhaustion].
type exhaustionLog struct {
	log *slog.Logger

	mu         sync.Mutex
	reportedAt time.Time
}

func (l *exhaustionLog) report(app string, listen deploy.Key, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.reportedAt) < exhaustionPause {
		return
	}
	l.reportedAt = time.Now()
	remedy, _ := deploy.HostLack(err)
	l.log.Error("can't connect clients to containers for now", "app", app, "port", listen.String(), "error", err, "remedy", remedy)
}
