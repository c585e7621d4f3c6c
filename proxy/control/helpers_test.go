package control

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"dokku-expose/internal/load"
	"dokku-expose/proxy/proxytest"
)

// clientOf is a client of the daemon whose control socket is there.
func clientOf(control string) *Client {
	return NewClient(ClientConfig{Control: control, Version: "test", Start: "START", Restart: "RESTART"}, nil)
}

// runDaemon runs a daemon in this process, which ends with the test.
func runDaemon(t testing.TB, o Options) *Client {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready := make(chan struct{})
	ended := make(chan error, 1)
	o.Version = "test"
	o.Deadline = func() time.Duration { return proxytest.Patience }
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	reconcile := o.Reconcile
	o.Reconcile = func(ctx context.Context, local *Local) error {
		close(ready)
		if reconcile == nil {
			return nil
		}
		return reconcile(ctx, local)
	}
	go func() { ended <- Run(ctx, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("the daemon ended: %v", err)
	}
	return clientOf(o.Control)
}

func startLoad(t testing.TB, port uint16, openers, holders int) *load.Load {
	t.Helper()
	l, err := load.Start(t.Context(), load.Config{
		Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Openers: openers, Holders: holders, Timeout: proxytest.Patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Stop() })
	return l
}

// judge ends the clients, none of which may have seen anything wrong.
func judge(t testing.TB, l *load.Load, holders int) load.Report {
	t.Helper()
	r := l.Stop()
	if r.Failed() > 0 || r.Held.Broken > 0 || r.Held.Open != holders {
		var text bytes.Buffer
		t.Error(errors.Join(r.Print(&text)), r.Summary(), text.String())
	}
	return r
}

func await(t testing.TB, l *load.Load, n int) {
	t.Helper()
	if err := l.Await(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}
