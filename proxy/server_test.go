package proxy

import (
	"context"
	"log/slog"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
)

// newServer is a server that ends with the test, and its connections with it.
func newServer(t testing.TB, maxConnections int) *Server {
	t.Helper()
	s, err := NewServer(maxConnections, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Close(now); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestEngine(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) deploy.Engine { return newServer(t, 0) })
}
