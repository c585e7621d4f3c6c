package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// supervise starts s again whenever its main process, at first p, ends without having been stopped.
func (h *Host) supervise(s *service, p *process) {
	for {
		select {
		case <-p.done:
		case <-h.ctx.Done():
			return
		}
		next, err := h.revive(s, p)
		if err != nil {
			h.say(" !     %v", err)
		}
		if next == nil {
			return
		}
		p = next
	}
}

// revive starts s again after the end of p. It returns nil when p had been stopped.
func (h *Host) revive(s *service, p *process) (*process, error) {
	stopped := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return s.process != p
	}
	if stopped() {
		return nil, nil
	}
	if s.mixed {
		if err := h.signalGroup(p, syscall.SIGKILL); err != nil {
			return nil, err
		}
	}
	select {
	case <-time.After(s.pause):
	case <-h.ctx.Done():
		return nil, nil
	}
	if stopped() {
		return nil, nil
	}
	if err := h.prepare(s); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.process != p {
		return nil, nil
	}
	if err := h.launch(s); err != nil {
		return nil, err
	}
	h.former = append(h.former, p)
	return s.process, nil
}

// prepare runs what comes before a start under a supervisor.
func (h *Host) prepare(s *service) error {
	if !h.options.Supervise || s.prepare == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(h.ctx, servicePatience)
	defer cancel()
	cmd, log, err := h.serviceCommand(ctx, s, s.prepare)
	if err != nil {
		return err
	}
	defer log.Close()
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("rig: %s: %w", s.prepare, err)
	}
	return nil
}

// PowerOff ends all processes of the services at once, as the power's going does. What they had in memory is gone, the
// folder with their sockets too. StartHAProxy and StartDaemon then are the boot.
func (h *Host) PowerOff() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, s := range []*service{&h.haproxy, &h.daemon} {
		if s.process != nil {
			h.former = append(h.former, s.process)
			s.process = nil
		}
	}
	for _, p := range h.former {
		errs = append(errs, h.signalGroup(p, syscall.SIGKILL))
	}
	for _, p := range h.former {
		<-p.done
	}
	h.former = nil
	entries, err := os.ReadDir(h.Run)
	errs = append(errs, err)
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(h.Run, e.Name())))
	}
	return errors.Join(errs...)
}
