package rig

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// servicePatience bounds how long a service may need to answer for the first time, and to end.
const servicePatience = 2 * time.Minute

// service is one of the plugin's, which a service manager keeps running on a real host.
type service struct {
	// command is the binary's subcommand, log the name of the file with what it printed.
	command, log string
	// answers asks it.
	answers func(ctx context.Context) error
	// What a supervisor does, as the service's unit says: a subcommand before each start, "" for none, whose failure is
	// ignored; the pause before a restart; and whether the processes that the main one has left behind are killed first.
	prepare string
	pause   time.Duration
	mixed   bool
	process *process
}

// HAProxyLog is the file with what HAProxy printed.
func (h *Host) HAProxyLog() string { return filepath.Join(h.Dir, h.haproxy.log) }

// DaemonLog is the file with what the daemon printed.
func (h *Host) DaemonLog() string { return filepath.Join(h.Dir, h.daemon.log) }

// StartHAProxy starts the plugin's HAProxy as its service unit does and waits until it answers on its socket.
func (h *Host) StartHAProxy() error { return h.startService(&h.haproxy) }

// StartDaemon starts the plugin's daemon as its service unit does and waits until it answers on its socket.
func (h *Host) StartDaemon() error { return h.startService(&h.daemon) }

// HAProxyGroup is the process group that all processes of HAProxy are in, which is the id of its master too. It is 0 when that
// does not run.
func (h *Host) HAProxyGroup() int { return h.group(&h.haproxy) }

// DaemonGroup is the process group of the daemon and its worker, which is the id of the main process too. It is 0 when that
// does not run.
func (h *Host) DaemonGroup() int { return h.group(&h.daemon) }

func (h *Host) group(s *service) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.process == nil {
		return 0
	}
	select {
	case <-s.process.done:
		return 0
	default:
		return s.process.cmd.Process.Pid
	}
}

func (h *Host) startService(s *service) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.process != nil {
		return fmt.Errorf("rig: %s was started already", s.command)
	}
	if err := h.prepare(s); err != nil {
		return err
	}
	if err := h.launch(s); err != nil {
		return err
	}
	p, path := s.process, filepath.Join(h.Dir, s.log)
	ctx, cancel := context.WithTimeout(h.ctx, servicePatience)
	defer cancel()
	for {
		err := s.answers(ctx)
		if err == nil {
			if h.options.Supervise {
				h.later.Go(func() { h.supervise(s, p) })
			}
			return nil
		}
		select {
		case <-p.done:
			s.process = nil
			text, _ := os.ReadFile(path)
			if p.err == nil {
				return fmt.Errorf("rig: %s ended: %s", s.command, text)
			}
			return fmt.Errorf("rig: %s ended: %w: %s", s.command, p.err, text)
		case <-ctx.Done():
			text, _ := os.ReadFile(path)
			return fmt.Errorf("rig: %s does not answer: %w: %s", s.command, err, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// launch starts the main process of s.
func (h *Host) launch(s *service) error {
	cmd, log, err := h.serviceCommand(context.Background(), s, s.command)
	if err != nil {
		return err
	}
	defer log.Close()
	if s.process, err = spawn(cmd); err != nil {
		return fmt.Errorf("rig: starting %s: %w", s.command, err)
	}
	return nil
}

// serviceCommand is the binary with a subcommand, whose output goes to the log of s.
func (h *Host) serviceCommand(ctx context.Context, s *service, name string) (*exec.Cmd, *os.File, error) {
	log, err := os.OpenFile(filepath.Join(h.Dir, s.log), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, cmp.Or(h.options.Service, h.options.Binary), name)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = os.TempDir(), h.environ(0), log, log
	// The race detector waits for a second before its program ends.
	cmd.Env = append(cmd.Env, "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=50")
	return cmd, log, nil
}

// daemonAnswers finds somebody who listens at the daemon's control socket.
func (h *Host) daemonAnswers(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", h.controlSocket())
	if err != nil {
		return err
	}
	return conn.Close()
}

// haproxyAnswers asks HAProxy who it is.
func (h *Host) haproxyAnswers(ctx context.Context) error {
	socket := h.statsSocket()
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

// process is a program in the background.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended; then err says how
	err  error
}

// spawn starts cmd in a process group of its own, and a guard that sends it SIGTERM when this process ends without having
// stopped it. The kernel's parent-death signal will not do: it is a thread's, and lost where a Go program calls exec.
func spawn(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// `cat` ends with its standard input, which ends with this process.
	guard := exec.Command("sh", "-c", `cat; kill -TERM "$1"`, "guard", strconv.Itoa(cmd.Process.Pid))
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	_, err := guard.StdinPipe()
	if err == nil {
		err = guard.Start()
	}
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		// Before its input ends: the process id is nobody's now, and somebody else's soon.
		_ = syscall.Kill(-guard.Process.Pid, syscall.SIGKILL)
		_ = guard.Wait()
		close(p.done)
	}()
	return p, nil
}

// StopHAProxy ends HAProxy, master and workers, and every connection through it. One that does not run is fine.
func (h *Host) StopHAProxy() error { return h.stopService(&h.haproxy, h.statsSocket()) }

// StopDaemon ends the daemon with its worker, and every connection through it. One that does not run is fine.
func (h *Host) StopDaemon() error { return h.stopService(&h.daemon, h.controlSocket()) }

// RestartDaemon is a restart by a service manager: the daemon's main process ends, and the next one's worker takes over from
// the one that it leaves behind.
func (h *Host) RestartDaemon() error {
	h.mu.Lock()
	p := h.daemon.process
	h.daemon.process = nil
	h.mu.Unlock()
	if p != nil {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return fmt.Errorf("rig: restarting the daemon: %w", err)
		}
		<-p.done
		h.mu.Lock()
		h.former = append(h.former, p)
		h.mu.Unlock()
	}
	return h.StartDaemon()
}

func (h *Host) stopService(s *service, socket string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.process == nil {
		return nil
	}
	p := s.process
	s.process = nil
	// HAProxy's master ends when its workers have; the daemon's does not wait for its worker.
	if err := h.signalGroup(p, syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(servicePatience):
	}
	if err := h.signalGroup(p, syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	// A worker that only the kill has ended, since its master was too young to do it, may take a moment.
	for {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return nil
		}
		_ = conn.Close()
		time.Sleep(time.Millisecond)
	}
}

// signalGroup signals all processes of the group that p leads, or led. When the last of them has ended, that number is somebody
// else's soon: those of this host are known by the folder of its sockets in their environment.
func (h *Host) signalGroup(p *process, signal syscall.Signal) error {
	group := p.cmd.Process.Pid
	return h.signalAll(signal, func(pid int) bool {
		of, err := syscall.Getpgid(pid)
		return err == nil && of == group
	})
}

// SignalDaemon signals all daemons of the host, main processes and workers, former ones included, however young they are.
func (h *Host) SignalDaemon(signal syscall.Signal) error {
	return h.signalAll(signal, func(pid int) bool {
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		words := strings.Split(string(args), "\x00")
		return err == nil && len(words) > 1 && (words[1] == "daemon" || words[1] == "serve")
	})
}

// signalAll signals those processes of this host's services for which which is true.
func (h *Host) signalAll(signal syscall.Signal, which func(pid int) bool) error {
	entries, err := os.ReadDir("/proc")
	errs := []error{err}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !which(pid) {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil || !slices.Contains(strings.Split(string(environ), "\x00"), h.runVariable()) {
			continue
		}
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("rig: sending %s to %d: %w", signal, pid, err))
		}
	}
	return errors.Join(errs...)
}

// stopServices ends all that runs.
func (h *Host) stopServices() error {
	err := errors.Join(h.StopDaemon(), h.StopHAProxy())
	for _, p := range h.former {
		err = errors.Join(err, h.signalGroup(p, syscall.SIGKILL))
	}
	return err
}

func (h *Host) statsSocket() string { return filepath.Join(h.Run, "stats.sock") }

func (h *Host) controlSocket() string { return filepath.Join(h.Run, "control.sock") }
