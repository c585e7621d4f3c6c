package control

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
)

// supervisorEnv names, in the daemon's environment, the descriptor that reaches its end when the supervisor goes.
const supervisorEnv = "DOKKU_EXPOSE_MASTER_FD"

// Supervise keeps command running, a program that calls [Run], as a process of its own: the worker. The calling process is the one that a
// service manager knows, and has no connections itself, so that a plain restart of the service keeps them: SIGTERM ends Supervise at once
// and leaves the worker, which goes on until the next worker takes over from it, or for [Options.Linger].
//
// A systemd unit for that has KillMode=process, RuntimeDirectoryPreserve=yes (the control socket must be found again) and
// StartLimitIntervalSec=0 (restarts in a row are no failures); with Type=notify it needs NotifyAccess=all, because the worker is the one
// that is ready. After a real stop the ports close when the worker has lingered.
//
// SIGHUP is passed on to the worker, which ignores it until it asks for it ([signal.Notify]). SIGINT, with which a terminal stops all its
// processes, is passed on too. Supervise returns nil after SIGTERM, or when the worker ended well, which it does after the takeover of
// another one's worker. A worker that fails is an error, so that the service manager starts both anew.
func Supervise(command *exec.Cmd, log *slog.Logger) error {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	// Nothing is ever written: the worker waits for this end to close, which it does however this process ends.
	defer theirs.Close()
	defer ours.Close()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	// A worker inherits that, and so survives a signal that comes before it asks for them.
	signal.Ignore(syscall.SIGHUP)

	command.ExtraFiles = append(command.ExtraFiles, ours)
	command.Env = append(command.Environ(), supervisorEnv+"="+strconv.Itoa(2+len(command.ExtraFiles)))
	if err := command.Start(); err != nil {
		return fmt.Errorf("start the worker: %w", err)
	}
	signal.Notify(signals, syscall.SIGHUP)
	exited := make(chan error, 1)
	go func() { exited <- command.Wait() }()
	for {
		select {
		case err := <-exited:
			if err != nil {
				return fmt.Errorf("the worker (pid %d) ended: %w", command.Process.Pid, err)
			}
			return nil
		case sig := <-signals:
			if sig == syscall.SIGTERM {
				log.Info("ending; the worker goes on until somebody takes over from it", "pid", command.Process.Pid)
				return nil
			}
			if err := command.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
		}
	}
}

// SupervisorGone returns a channel that is closed when the supervisor of this process has gone, nil in a process without one.
func SupervisorGone() (<-chan struct{}, error) {
	value := os.Getenv(supervisorEnv)
	if value == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %q, not a descriptor", supervisorEnv, value)
	}
	syscall.CloseOnExec(fd)
	if err := os.Unsetenv(supervisorEnv); err != nil {
		return nil, err
	}
	gone := make(chan struct{})
	pipe := os.NewFile(uintptr(fd), "supervisor")
	go func() {
		defer close(gone)
		defer pipe.Close()
		_, _ = pipe.Read(make([]byte, 1))
	}()
	return gone, nil
}
