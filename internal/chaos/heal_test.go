package chaos_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"dokku-expose/internal/rig"
)

// healed is how long it takes until each current container has answered a connection that begins now or later.
func (s *scene) healed() time.Duration {
	s.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var apps sync.WaitGroup
	errs := make([]error, len(s.apps))
	for i, a := range s.apps {
		ids := s.current(a)
		apps.Go(func() { errs[i] = answered(ctx, a.port, ids) })
	}
	apps.Wait()
	s.must(errors.Join(errs...))
	return time.Since(began)
}

const (
	// maxWaiting is how many probes wait for an answer at most, maxKept how many connections to one container stay.
	maxWaiting, maxKept = 200, 50
)

// answer is a connection that was greeted by a container.
type answer struct {
	container string
	conn      net.Conn
}

// answered connects every now and then, without waiting for an answer, until all containers have answered. Connections stay
// until then, for each new one goes to the container with the fewest.
func answered(ctx context.Context, port uint16, ids []string) error {
	missing := make(map[string]bool)
	for _, id := range ids {
		missing[id[:12]] = true
	}
	kept := make(map[string]int)
	answers := make(chan answer)
	waiting := make(chan struct{}, maxWaiting)
	var probes sync.WaitGroup
	defer probes.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for len(missing) > 0 {
		select {
		case waiting <- struct{}{}:
			probes.Go(func() {
				probe(ctx, port, answers)
				<-waiting
			})
		default:
		}
		for next := time.After(20 * time.Millisecond); next != nil && len(missing) > 0; {
			select {
			case a := <-answers:
				delete(missing, a.container)
				if kept[a.container]++; kept[a.container] > maxKept {
					_ = a.conn.Close()
				} else {
					defer a.conn.Close()
				}
			case <-next:
				next = nil
			case <-ctx.Done():
				return fmt.Errorf("public port %d: no answer of the containers %v: %w", port, slices.Collect(maps.Keys(missing)), ctx.Err())
			}
		}
	}
	return nil
}

// probe is one connection.
func probe(ctx context.Context, port uint16, answers chan<- answer) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", loopback(port).String())
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if fields := strings.Fields(line); err == nil && len(fields) == 3 {
		select {
		case answers <- answer{fields[1], conn}:
			return
		case <-ctx.Done():
		}
	}
	_ = conn.Close()
}

// healthy waits until expose:check finds nothing wrong.
func (s *scene) healthy() {
	s.t.Helper()
	var result rig.Result
	over := time.Now().Add(patience)
	for {
		var err error
		result, err = s.Command("check")
		s.must(err)
		if result.Code == 0 {
			return
		}
		if time.Now().After(over) {
			s.t.Fatalf("expose:check still says: %s\n%s", result.Stderr, s.evidence())
		}
	}
}
