package haproxy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
)

const (
	// validateTimeout bounds `haproxy -c`, which takes well below a second for a thousand routes.
	validateTimeout = 30 * time.Second
	// reloadTimeout bounds a reload, from the command to the new worker's first answer.
	reloadTimeout = 60 * time.Second
	// masterAbsence bounds the wait for a master that starts anew, which takes it some hundredths of a second.
	masterAbsence = time.Second
)

// rejection tells that HAProxy would not have some routes.
type rejection struct {
	routes []*deploy.RouteError
	err    error
}

func (r *rejection) Error() string { return r.err.Error() }
func (r *rejection) Unwrap() error { return r.err }

// rejects tells whether r is one of the routes.
func (r *rejection) rejects(route deploy.Route) bool {
	return slices.ContainsFunc(r.routes, func(e *deploy.RouteError) bool { return e.App == route.App && e.Key == route.Key })
}

// reject makes a rejection of those proxies that HAProxy's messages point at by the line of the configuration.
func reject(w wanted, messages string) error {
	err := fmt.Errorf("HAProxy refuses its configuration: %s", messages)
	var routes []*deploy.RouteError
	for _, message := range strings.Split(messages, "\n") {
		p, why, ok := w.blamed(message)
		if !ok || slices.ContainsFunc(routes, func(e *deploy.RouteError) bool { return e.App == p.route.App && e.Key == p.route.Key }) {
			continue
		}
		routes = append(routes, &deploy.RouteError{App: p.route.App, Key: p.route.Key, Err: fmt.Errorf("HAProxy refuses it: %s", why)})
	}
	if len(routes) == 0 {
		return err
	}
	return &rejection{routes: routes, err: err}
}

// alert is how HAProxy names a place in a file: "[ALERT] (123) : parsing [/path/haproxy.cfg:39] : what is wrong".
var alert = regexp.MustCompile(`^\[ALERT\]\s*\(\d+\)\s*: (.*\[[^\]]*:(\d+)\].*)$`)

// blamed is the proxy in whose section the line is that a message names, and what the message says.
func (w wanted) blamed(message string) (p proxy, why string, ok bool) {
	m := alert.FindStringSubmatch(message)
	if m == nil {
		return proxy{}, "", false
	}
	number, err := strconv.Atoi(m[2])
	if err != nil {
		return proxy{}, "", false
	}
	var section string
	for i, line := range strings.Split(string(w.text), "\n") {
		if i >= number {
			break
		}
		if line != "" && line[0] != ' ' && line[0] != '#' && line[0] != '.' {
			section = line
		}
	}
	name := strings.TrimPrefix(strings.TrimPrefix(section, "listen "), "backend "+namesPrefix)
	i := slices.IndexFunc(w.proxies, func(p proxy) bool { return p.name == name })
	if i < 0 {
		return proxy{}, "", false
	}
	return w.proxies[i], m[1], true
}

// validate lets HAProxy read a configuration. It does not see ports that are taken.
func (e *Engine) validate(ctx context.Context, w wanted) error {
	messages, err := e.check(ctx, w.text)
	if err != nil || messages == "" {
		return err
	}
	return reject(w, messages)
}

// check returns what HAProxy says of a configuration that it refuses, "" when it takes it. The configuration finds files at /dev/fd/3 and on.
func (e *Engine) check(ctx context.Context, text []byte, files ...*os.File) (refusal string, err error) {
	ctx, cancel := context.WithTimeout(ctx, validateTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.cfg.Binary, "-c", "-f", "/dev/stdin")
	cmd.Stdin, cmd.ExtraFiles = bytes.NewReader(text), files
	// HAProxy must be able to return to where it starts, and a hook starts wherever an operator happens to be: in /root.
	cmd.Dir = "/"
	output, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		return cmp.Or(strings.TrimSpace(string(output)), exit.Error()), nil
	}
	if err != nil {
		return "", fmt.Errorf("%s -c: %w", e.cfg.Binary, errors.Join(err, ctx.Err()))
	}
	return "", nil
}

// processes is what the master says of itself and its workers.
type processes struct {
	master, reloads int
	workers         []int
}

var procColumn = regexp.MustCompile(`<([^>]+)>`)

// processes asks the master. The columns of `show proc` depend on HAProxy's version. HAProxy cuts the list off at one buffer, which
// holds about 200 workers. The kernel's list of the master's children completes it.
//
// A master that starts a worker leaves questions of that moment unanswered, so that it is asked again for a while.
func (e *Engine) processes(ctx context.Context) (processes, error) {
	p, err := e.showProc(ctx)
	for began := time.Now(); errors.Is(err, errUnanswered) && time.Since(began) < masterAbsence && ctx.Err() == nil; {
		time.Sleep(pollInterval)
		p, err = e.showProc(ctx)
	}
	if err != nil {
		return processes{}, err
	}
	children, err := childrenOf(p.master)
	if err != nil {
		return processes{}, err
	}
	for _, pid := range children {
		if !slices.Contains(p.workers, pid) {
			p.workers = append(p.workers, pid)
		}
	}
	return p, nil
}

var errUnanswered = errors.New("HAProxy's master did not answer in full")

// showProc is what the master itself says.
func (e *Engine) showProc(ctx context.Context) (p processes, err error) {
	answer, err := e.master(ctx, "show proc")
	if err != nil {
		return processes{}, err
	}
	reloads := -1
	for line := range strings.Lines(answer) {
		fields := strings.Fields(line)
		if strings.HasPrefix(line, "#<PID>") {
			for i, m := range procColumn.FindAllStringSubmatch(line, -1) {
				if m[1] == "reloads" {
					reloads = i
				}
			}
			continue
		}
		if len(fields) <= max(reloads, 1) {
			continue
		}
		pid, err := strconv.Atoi(fields[0])
		if err != nil {
			continue
		}
		switch {
		case fields[1] == "worker":
			p.workers = append(p.workers, pid)
		case fields[1] == "master" && reloads >= 0:
			p.master = pid
			if p.reloads, err = strconv.Atoi(fields[reloads]); err != nil {
				return processes{}, fmt.Errorf("HAProxy's master on %s: %q: %w", e.cfg.MasterSocket, strings.TrimSpace(line), err)
			}
		}
	}
	if p.master == 0 {
		return processes{}, fmt.Errorf("%w on %s", errUnanswered, e.cfg.MasterSocket)
	}
	return p, nil
}

// childrenOf returns the process ids of a master's children, which are its workers: it forks in its main thread only.
func childrenOf(master int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", master, master))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, nil // The master has ended, or the kernel has no such list (CONFIG_PROC_CHILDREN): `show proc` has to do.
	}
	if err != nil {
		return nil, fmt.Errorf("workers of HAProxy's master %d: %w", master, err)
	}
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("workers of HAProxy's master %d: %w", master, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// reload makes HAProxy read the file, and returns when a new worker serves it and no other one takes connections. w is what
// the file says, live what runs. When it fails the running worker goes on.
func (e *Engine) reload(ctx context.Context, w wanted, live *snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	before, err := e.processes(ctx)
	if err != nil {
		return err
	}
	// HAProxy 2.8 and newer answer when the reload is done, older ones at once and without text. So the answer has as much time as
	// the new worker.
	answer, err := e.masterWithin(ctx, "reload")
	if err != nil {
		return err
	}
	if strings.HasPrefix(answer, "Success=0") {
		return e.refusal(w, live, answer)
	}
	err = await(ctx, "HAProxy's new worker answers", func() (bool, error) {
		now, err := e.identify(ctx)
		if err == nil && now.structure == w.structure && !now.stopping && !slices.Contains(before.workers, now.pid) {
			return true, nil
		}
		after, masterErr := e.processes(ctx)
		if masterErr != nil && !gone(before.master) {
			// The master does not listen while it starts anew.
			return false, errors.Join(err, masterErr)
		}
		known := func(pid int) bool { return slices.Contains(before.workers, pid) }
		failed := after.reloads > before.reloads && !slices.ContainsFunc(after.workers, func(pid int) bool { return !known(pid) })
		if failed || after.master != before.master {
			return true, e.refusal(w, live, "")
		}
		return false, err
	})
	if err != nil {
		return err
	}
	// Older ones than that have closed theirs at an earlier reload, and one of them that hangs keeps nobody from a new port.
	return await(ctx, "HAProxy's old worker has closed its listeners", func() (bool, error) {
		// The master starts anew once more after it has started the worker. The next command needs it.
		if _, err := e.processes(ctx); err != nil || gone(live.pid) {
			return err == nil, err
		}
		open, err := anyFrontend(ctx, oldWorker{e, live.pid}.command, "OPEN")
		return err == nil && !open, err
	})
}

// gone tells whether a process has ended. A master may do that when a reload fails (seen with 2.8.0).
func gone(pid int) bool { return errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// anyFrontend tells whether a worker has a frontend in one of some states.
func anyFrontend(ctx context.Context, ask func(context.Context, string) (string, error), states ...string) (bool, error) {
	// Objects of type 1 are frontends.
	answer, err := ask(ctx, "show stat -1 1 -1")
	return slices.ContainsFunc(states, func(state string) bool { return strings.Contains(answer, ","+state+",") }), err
}

// refusal finds out why HAProxy did not load w: a port that somebody took after it was looked at, else what HAProxy says (2.6
// and older say it in their log only), else everything that is new, so that at least nobody else has to wait.
func (e *Engine) refusal(w wanted, live *snapshot, messages string) error {
	var fresh []deploy.Route
	for _, p := range w.proxies {
		if _, ok := live.proxies[p.name]; !ok {
			fresh = append(fresh, p.route)
		}
	}
	_, refused, err := e.bindable(fresh, live)
	if err != nil {
		return err
	}
	if len(refused) > 0 {
		return &rejection{routes: refused, err: errors.New("HAProxy could not listen on all ports")}
	}
	err = reject(w, messages)
	if bad := (*rejection)(nil); errors.As(err, &bad) || len(fresh) == 0 {
		return err
	}
	bad := &rejection{err: err}
	for _, r := range fresh {
		bad.routes = append(bad.routes, &deploy.RouteError{App: r.App, Key: r.Key, Err: errors.New(
			"HAProxy could not be reloaded with what is new in its configuration; its log says why (journalctl -u dokku-expose-haproxy)")})
	}
	return bad
}
