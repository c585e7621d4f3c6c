package proxy

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

// masterEnv names the descriptor that ends when the master does, in the worker's environment.
const masterEnv = "DOKKU_EXPOSE_MASTER_FD"

// Master keeps command running, whose program calls [Run], as a process of its own: the worker. It is the process that a service
// manager knows, and has no connections itself. That makes a plain restart of the service keep them: SIGTERM ends the master
// at once and leaves the worker, which goes on until the worker of the next master takes over from it, or nobody does in time.
//
// A systemd unit says so with KillMode=process, RuntimeDirectoryPreserve=yes (the control socket must be found again) and
// StartLimitIntervalSec=0 (restarts in a row are no failures); with Type=notify it needs NotifyAccess=all, for it is the worker
// that is ready. After a real stop the ports close when the worker has lingered.
//
// SIGHUP is passed on to the worker, which ignores it until it asks for it ([signal.Notify]). SIGINT, with which a terminal ends all its processes, ends the worker too. Master returns nil
// when it was told to end or the worker ended well, which it does when a worker of somebody else has taken over; a worker that
// fails is an error, for the service manager to start it all anew.
func Master(command *exec.Cmd, log *slog.Logger) error {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	// Nothing is ever written: that this end closes, however this process ends, is what the worker waits for.
	defer theirs.Close()
	defer ours.Close()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	// A worker inherits that, and so does not die of one that comes before it asks for them.
	signal.Ignore(syscall.SIGHUP)

	command.ExtraFiles = append(command.ExtraFiles, ours)
	command.Env = append(command.Environ(), masterEnv+"="+strconv.Itoa(2+len(command.ExtraFiles)))
	if err := command.Start(); err != nil {
		return fmt.Errorf("start the worker: %w", err)
	}
	signal.Notify(signals, syscall.SIGHUP)
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for {
		select {
		case err := <-ended:
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

// MasterGone is closed when the master of this process has gone. It is nil in a process without one.
func MasterGone() (<-chan struct{}, error) {
	value := os.Getenv(masterEnv)
	if value == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s is %q, not a descriptor", masterEnv, value)
	}
	syscall.CloseOnExec(fd)
	if err := os.Unsetenv(masterEnv); err != nil {
		return nil, err
	}
	gone := make(chan struct{})
	pipe := os.NewFile(uintptr(fd), "master")
	go func() {
		defer close(gone)
		defer pipe.Close()
		_, _ = pipe.Read(make([]byte, 1))
	}()
	return gone, nil
}
