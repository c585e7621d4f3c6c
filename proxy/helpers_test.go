package proxy

import (
	"context"
	"log/slog"
	"testing"
)

// newServer is a server that closes with the test, and its connections with it.
func newServer(t testing.TB) *Server {
	t.Helper()
	return newServerWith(t, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), nil)
}

// newServerWith is one with a log and a function of the test's own.
func newServerWith(t testing.TB, log *slog.Logger, failed func()) *Server {
	t.Helper()
	s, err := NewServer(log, failed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		s.Close(now)
	})
	return s
}
