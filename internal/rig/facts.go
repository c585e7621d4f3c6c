package rig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scheduler is the app's scheduler.
func (h *Host) scheduler(app string) (string, error) {
	name, err := h.property("scheduler", app, "selected")
	if name == "" {
		name = dockerLocal
	}
	return name, err
}

// checks is what Dokku does with its checks for a process type.
type checks int

const (
	checksEnabled  checks = iota
	checksSkipped         // the plugin's are called, Dokku's own pass
	checksDisabled        // the old containers are stopped first
)

func (h *Host) checks(app, process string) (checks, error) {
	for key, state := range map[string]checks{"disabled": checksDisabled, "skipped": checksSkipped} {
		list, err := h.property("checks", app, key)
		if err != nil {
			return 0, err
		}
		if list == "_all_" || slices.Contains(strings.Split(list, ","), process) {
			return state, nil
		}
	}
	return checksEnabled, nil
}

// waitToRetire is how long old containers live on after a deploy.
func (h *Host) waitToRetire(app string) (time.Duration, error) {
	text, err := h.property("checks", app, "wait-to-retire")
	if err != nil || text == "" {
		return 60 * time.Second, err
	}
	seconds, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("rig: wait-to-retire of %s: %w", app, err)
	}
	return time.Duration(seconds) * time.Second, nil
}

// processCount is how many containers of a process type an app has: one line of its formation.
type processCount struct {
	process string
	count   int
}

// formation is the app's scale by process type, one `web` when nothing was said.
func (h *Host) formation(app string) ([]processCount, error) {
	text, err := h.property("ps", app, "scale")
	if err != nil {
		return nil, err
	}
	if text == "" {
		text = "web=1"
	}
	var formation []processCount
	for line := range strings.Lines(text) {
		process, number, _ := strings.Cut(strings.TrimSpace(line), "=")
		count, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("rig: the scale of %s has the line %q", app, line)
		}
		formation = append(formation, processCount{process, count})
	}
	slices.SortFunc(formation, func(a, b processCount) int { return strings.Compare(a.process, b.process) })
	return formation, nil
}

func (h *Host) setScale(app, process string, count int) error {
	formation, err := h.formation(app)
	if err != nil {
		return err
	}
	formation = slices.DeleteFunc(formation, func(p processCount) bool { return p.process == process })
	var text strings.Builder
	for _, p := range append(formation, processCount{process, count}) {
		fmt.Fprintf(&text, "%s=%d\n", p.process, p.count)
	}
	return h.SetProperty("ps", app, "scale", text.String())
}

// A Procfile is kept with the deploy that brings it (Procfile.DOKKU_PID) until that has ended well.
func (s *session) procfile(app string) string {
	return filepath.Join(s.Lib, "data", "ps", app, "Procfile")
}

func (s *session) stageProcfile(app, dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "Procfile"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.procfile(app)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(s.stagedProcfile(app), text, 0o644)
}

func (s *session) stagedProcfile(app string) string {
	return fmt.Sprintf("%s.%d", s.procfile(app), s.process.Process.Pid)
}

func (s *session) promoteProcfile(app string) error {
	err := os.Rename(s.stagedProcfile(app), s.procfile(app))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// startCommand is what the Procfile says for a process type, "" for the image's own command. known is false for a process
// type that the Procfile does not have: Dokku skips it.
func (s *session) startCommand(app, process string) (command string, known bool, err error) {
	text, err := os.ReadFile(s.stagedProcfile(app))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = os.ReadFile(s.procfile(app))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", true, nil
	}
	if err != nil {
		return "", false, err
	}
	for line := range strings.Lines(string(text)) {
		if name, command, _ := strings.Cut(line, ":"); name == process {
			return strings.TrimSpace(command), true, nil
		}
	}
	return "", false, nil
}
