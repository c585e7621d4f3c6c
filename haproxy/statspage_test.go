package haproxy_test

import (
	"context"
	"encoding/csv"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/wait"
)

// Clients of the statistics page that never say what they want take no connection from the public ports, and keep others from
// the page for no longer than their time.
func TestSlowClientsDoNotHoldThePage(t *testing.T) {
	t.Parallel()
	const total, page = 100, 10
	addr, stats := withStats(t)
	h := haproxytest.Start(t, stats, func(c *haproxy.Config) { c.TotalConnections = total })
	mail := port(t)
	apply(t, h, route("mail", mail, enginetest.NewServer(t, "v1")))
	for range 3 * page {
		go sayLittle(t.Context(), addr.String())
	}
	wait.Until(t, "they have all that they may have", func() bool { return statsFrontend(t, h, "scur") >= page })
	for range total - page {
		if _, greeting := connect(t, mail); greeting != "v1" {
			t.Fatalf("%s answered", greeting)
		}
	}
	if most := statsFrontend(t, h, "smax"); most > page {
		t.Errorf("the page had %d of %d connections", most, total)
	}
	if code, body := get(t, addr, "/", hostile); code != http.StatusOK || !strings.Contains(body, "mail") {
		t.Errorf("%d\n%s", code, body)
	}
}

// sayLittle begins a request, and goes on with it until it is closed. A byte now and then does not make its time longer.
func sayLittle(ctx context.Context, addr string) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: page\r\n")
	for err == nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_, err = io.WriteString(conn, "X: y\r\n")
		}
	}
}

// statsFrontend is a number that HAProxy tells of the page's frontend.
func statsFrontend(t *testing.T, h *haproxytest.HAProxy, column string) int {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(strings.TrimSpace(command(t, h, "show stat stats 1 -1")))).ReadAll()
	if err != nil || len(rows) != 2 {
		t.Fatalf("%v, %v", rows, err)
	}
	for i, name := range rows[0] {
		if name == column {
			n, err := strconv.Atoi(rows[1][i])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("there is no column %s", column)
	return 0
}
