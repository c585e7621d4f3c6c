package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// errGarbled is an answer that is none: no greeting, or the echo of something else.
var errGarbled = errors.New("garbled")

// connection is one that a client opened, or tried to.
type connection struct {
	conn   net.Conn // nil when it could not be opened
	lines  *bufio.Reader
	unbind func() bool // ends the watch over the load's context

	phase     *phase
	began     time.Time
	greeted   time.Time // zero when there was no greeting
	version   string
	container string
	sent      int
}

// retryPause is how long a client waits after a failure, lest it counts how fast an address can refuse.
const retryPause = 10 * time.Millisecond

// open is one opener's life.
func (l *Load) open(dial dialer) {
	for l.running() {
		c, err := l.connect(dial)
		if err == nil {
			err = c.echo(l.cfg.Timeout)
		}
		c.close()
		l.attempted(c, err)
		switch {
		case err != nil:
			l.wait(time.After(retryPause))
		case l.cfg.Pause > 0:
			l.wait(time.After(l.cfg.Pause))
		}
	}
}

// hold is one holder's life. The outcome of its first connection goes to first.
func (l *Load) hold(dial dialer, first chan<- error) {
	tick := time.NewTicker(l.cfg.HoldInterval)
	defer tick.Stop()
	for l.running() {
		c, err := l.connect(dial)
		if err == nil {
			err = c.echo(l.cfg.Timeout)
		}
		l.attempted(c, err)
		if err == nil {
			l.holding(c)
		}
		if first != nil {
			first <- err
			first = nil
		}
		if err == nil {
			err = l.keep(c, tick.C)
			l.released(c, err)
		}
		c.close()
		if err != nil {
			l.wait(tick.C) // not again at once: a holder is no opener
		}
	}
	if first != nil {
		first <- context.Cause(l.ctx)
	}
}

// keep has lines echoed until the connection breaks, which is the error, or the load ends.
func (l *Load) keep(c *connection, tick <-chan time.Time) error {
	for {
		select {
		case <-l.stop:
			return nil
		case <-l.ctx.Done():
			return nil
		case <-tick:
			if err := c.echo(l.cfg.Timeout); err != nil {
				return err
			}
		}
	}
}

// wait returns at the given time, or when the load ends.
func (l *Load) wait(until <-chan time.Time) {
	select {
	case <-until:
	case <-l.stop:
	case <-l.ctx.Done():
	}
}

func (l *Load) running() bool {
	select {
	case <-l.stop:
		return false
	case <-l.ctx.Done():
		return false
	default:
		return true
	}
}

// connect opens a connection and reads the greeting. The connection is never nil, and is to be closed after an error too.
func (l *Load) connect(dial dialer) (*connection, error) {
	c := l.begin()
	tcp, err := dial()
	if err != nil {
		return c, err
	}
	var conn net.Conn = tcp
	if l.cfg.TLS != nil {
		conn = tls.Client(tcp, l.cfg.TLS)
	}
	c.conn, c.lines = conn, bufio.NewReader(conn)
	c.unbind = context.AfterFunc(l.ctx, func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(l.cfg.Timeout)); err != nil {
		return c, err
	}
	line, err := c.lines.ReadString('\n')
	if err != nil {
		return c, err
	}
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return c, fmt.Errorf(`%w: the greeting is %q, want "VERSION CONTAINER PORT"`, errGarbled, line)
	}
	c.greeted, c.version, c.container = time.Now(), fields[0], short(fields[1])
	return c, nil
}

// echo sends a line and waits until it is back.
func (c *connection) echo(timeout time.Duration) error {
	if err := c.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	c.sent++
	line := fmt.Sprintf("line %d\n", c.sent)
	if _, err := c.conn.Write([]byte(line)); err != nil {
		return err
	}
	got, err := c.lines.ReadString('\n')
	if err != nil {
		return err
	}
	if got != line {
		return fmt.Errorf("%w: %q came back as %q", errGarbled, line, got)
	}
	return nil
}

func (c *connection) close() {
	if c.conn != nil {
		c.unbind()
		_ = c.conn.Close()
	}
}
