package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// haproxyPatience bounds how long HAProxy may need to answer for the first time, and to end.
const haproxyPatience = 30 * time.Second

// HAProxyLog is the file with what HAProxy printed.
func (h *Host) HAProxyLog() string { return filepath.Join(h.Dir, "haproxy.log") }

// StartHAProxy starts the plugin's HAProxy as its service unit does, with the binary's subcommand run-haproxy, and waits
// until it answers on its socket.
func (h *Host) StartHAProxy() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.haproxy != nil {
		return errors.New("rig: HAProxy was started already")
	}
	log, err := os.OpenFile(h.HAProxyLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(h.options.Binary, "run-haproxy")
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = os.TempDir(), h.environ(0), log, log
	p, err := spawn(cmd)
	if err != nil {
		return fmt.Errorf("rig: starting HAProxy: %w", err)
	}
	h.haproxy = p
	ctx, cancel := context.WithTimeout(h.ctx, haproxyPatience)
	defer cancel()
	for {
		err := answers(ctx, h.statsSocket())
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			h.haproxy = nil
			text, _ := os.ReadFile(h.HAProxyLog())
			if p.err == nil {
				return fmt.Errorf("rig: HAProxy ended: %s", text)
			}
			return fmt.Errorf("rig: HAProxy ended: %w: %s", p.err, text)
		case <-ctx.Done():
			text, _ := os.ReadFile(h.HAProxyLog())
			return fmt.Errorf("rig: HAProxy does not answer: %w: %s", err, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// answers asks HAProxy who it is.
func answers(ctx context.Context, socket string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte("show info\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "Name: HAProxy") {
		err = fmt.Errorf("%s: %q is no answer of HAProxy's", socket, line)
	}
	return err
}

// StopHAProxy ends HAProxy, master and workers, and every connection through it. One that does not run is fine.
func (h *Host) StopHAProxy() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.haproxy == nil {
		return nil
	}
	p := h.haproxy
	h.haproxy = nil
	// The master ends when its workers have.
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("rig: stopping HAProxy: %w", err)
	}
	select {
	case <-p.done:
	case <-time.After(haproxyPatience):
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("rig: killing HAProxy: %w", err)
	}
	<-p.done
	// A worker that only the kill has ended, since its master was too young to do it, may take a moment.
	for {
		conn, err := net.Dial("unix", h.statsSocket())
		if err != nil {
			return nil
		}
		_ = conn.Close()
		time.Sleep(time.Millisecond)
	}
}

func (h *Host) statsSocket() string { return filepath.Join(h.Run, "stats.sock") }
