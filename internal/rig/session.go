package rig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Call is one call of the plugin's binary: a trigger or a subcommand.
type Call struct {
	// Name is the trigger's name, or the subcommand's ("expose:list").
	Name string
	Args []string
	// PID is the DOKKU_PID of the command that it belongs to.
	PID int
}

func (c Call) String() string {
	words := []string{c.Name}
	for _, arg := range c.Args {
		if arg == "" {
			arg = `""`
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

// Result is how a call ended.
type Result struct {
	Stdout, Stderr string
	// Code is the exit status. It is 0 for a trigger that the plugin has no link for: Dokku does not call it.
	Code int
	// Took is how long it ran.
	Took time.Duration
}

// TriggerError is a trigger that exited with an error.
type TriggerError struct {
	Call
	Result
}

func (e *TriggerError) Error() string {
	return fmt.Sprintf("trigger %s: exit status %d: %s", e.Call, e.Code, strings.TrimSpace(e.Stderr))
}

// ErrDied is the end of a command whose process died in the middle: nothing of what Dokku would have done after that
// happened, nothing was cleaned up.
var ErrDied = errors.New("rig: the deploy's process died")

// session is one command of Dokku's: a process that all its calls belong to.
type session struct {
	*Host
	opts options
	dir  string // the working directory of the calls

	process *exec.Cmd
	dead    atomic.Bool
	end     func() error // ends the process
}

// begin starts a session. Its end must be called.
func (h *Host) begin(opts []Option) (*session, error) {
	if err := h.ctx.Err(); err != nil {
		return nil, err
	}
	s := &session{Host: h, dir: os.TempDir()}
	for _, o := range opts {
		o(&s.opts)
	}
	// A process that does nothing, and ends by itself should this one be killed. Ctrl-C is not for it.
	s.process = exec.Command("cat")
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := s.process.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, fmt.Errorf("rig: a process to be DOKKU_PID: %w", err)
	}
	s.end = sync.OnceValue(func() error {
		return errors.Join(stdin.Close(), s.process.Wait())
	})
	return s, nil
}

// do runs a command of Dokku's.
func (h *Host) do(opts []Option, command func(*session) error) error {
	s, err := h.begin(opts)
	if err != nil {
		return err
	}
	return errors.Join(command(s), s.end())
}

// trigger calls a trigger as a script of Dokku's does, whose standard input is the user's.
func (s *session) trigger(name string, args ...string) error {
	_, err := s.call(Call{Name: name, Args: args}, nil)
	return err
}

// triggerOutput calls a trigger whose output Dokku reads, and whose standard input is empty.
func (s *session) triggerOutput(name string, args ...string) (string, error) {
	var stdout bytes.Buffer
	_, err := s.call(Call{Name: name, Args: args}, &stdout)
	return stdout.String(), err
}

// call calls a trigger. Its output goes to the user when output is nil.
func (s *session) call(call Call, output io.Writer) (Result, error) {
	call.PID = s.process.Process.Pid
	for _, before := range s.opts.before {
		if !before(call) {
			s.dead.Store(true)
		}
	}
	if s.dead.Load() {
		return Result{}, errors.Join(fmt.Errorf("%w before the trigger %s", ErrDied, call), s.end())
	}
	var result Result
	link := filepath.Join(s.pluginDir(), call.Name)
	if _, err := os.Stat(link); err == nil {
		if result, err = s.run(link, call.Args, call.PID, output); err != nil {
			return Result{}, err
		}
	}
	s.options.After(call, result)
	for _, after := range s.opts.after {
		after(call, result)
	}
	if result.Code != 0 {
		return result, &TriggerError{call, result}
	}
	return result, nil
}

// killDelay is how long a call that was killed may keep its output open through children of its own.
const killDelay = 5 * time.Second

// run runs the binary by a link. With an output of its own its standard input is empty, as it is then in Dokku's scripts;
// else it is the user's, which says nothing and does not end.
func (s *session) run(link string, args []string, pid int, output io.Writer) (Result, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(s.ctx, link, args...)
	cmd.Dir = s.dir
	cmd.Env = s.environ(pid)
	cmd.Env = append(cmd.Env, s.opts.env...)
	cmd.Stderr = io.MultiWriter(&stderr, s.out)
	if output == nil {
		output = s.out
		reader, writer, err := os.Pipe()
		if err != nil {
			return Result{}, err
		}
		defer writer.Close()
		defer reader.Close()
		cmd.Stdin = reader
	}
	cmd.Stdout = io.MultiWriter(&stdout, output)
	cmd.WaitDelay = killDelay
	began := time.Now()
	err := cmd.Run()
	result := Result{Stdout: stdout.String(), Stderr: stderr.String(), Took: time.Since(began)}
	var exit *exec.ExitError
	switch {
	case s.ctx.Err() != nil:
		return result, s.ctx.Err()
	case errors.As(err, &exit) && exit.Exited():
		result.Code = exit.ExitCode()
	case err != nil:
		// No exit status: it could not be started, or a signal ended it.
		return result, fmt.Errorf("rig: %s: %w", filepath.Base(link), err)
	}
	return result, nil
}

func (h *Host) pluginDir() string { return filepath.Join(h.Lib, "plugins", "enabled", Plugin) }

// environ is the environment that Dokku's start script exports, and the little that comes through sudo and ssh.
func (h *Host) environ(pid int) []string {
	plugins := filepath.Join(h.Lib, "plugins")
	env := []string{
		"HOME=" + h.Root,
		"DOKKU_ROOT=" + h.Root,
		"DOKKU_HOST_ROOT=" + h.Root,
		"DOKKU_LIB_ROOT=" + h.Lib,
		"PLUGIN_PATH=" + plugins,
		"PLUGIN_AVAILABLE_PATH=" + filepath.Join(plugins, "available"),
		"PLUGIN_ENABLED_PATH=" + filepath.Join(plugins, "enabled"),
		"DOCKER_BIN=docker",
		"DOKKU_API_VERSION=1",
		"DOKKU_NOT_IMPLEMENTED_EXIT=10",
		"DOKKU_VALID_EXIT=0",
		h.runVariable(),
	}
	if pid != 0 {
		env = append(env, fmt.Sprint("DOKKU_PID=", pid))
	}
	// GOCOVERDIR and GORACE are a test's.
	for _, key := range []string{"PATH", "LANG", "TMPDIR", "DOCKER_HOST", "DOCKER_API_VERSION", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "GOCOVERDIR", "GORACE"} {
		if value, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+value)
		}
	}
	if h.options.DockerHost != "" {
		env = append(env, "DOCKER_HOST="+h.options.DockerHost)
	}
	return append(env, h.options.Env...)
}

// runVariable names the folder of the services' sockets.
func (h *Host) runVariable() string { return "DOKKU_EXPOSE_RUN_DIR=" + h.Run }

// Trigger calls one trigger, as a command of its own.
func (h *Host) Trigger(name string, args ...string) (Result, error) {
	var result Result
	err := h.do(nil, func(s *session) (err error) {
		result, err = s.call(Call{Name: name, Args: args}, nil)
		var failed *TriggerError
		if errors.As(err, &failed) {
			return nil // the result says so
		}
		return err
	})
	return result, err
}

// Command runs a subcommand of the plugin as `dokku expose:VERB ARGS` does; the verb "" is `dokku expose`. One that the
// plugin has no link for, and help, go to its program `commands`. A result that is not 0 is no error.
func (h *Host) Command(verb string, args ...string) (Result, error) {
	name := Plugin
	link := filepath.Join(h.pluginDir(), "subcommands", "default")
	if verb != "" {
		name += ":" + verb
		link = filepath.Join(h.pluginDir(), "subcommands", verb)
	}
	if _, err := os.Stat(link); err != nil {
		link = filepath.Join(h.pluginDir(), "commands")
	}
	var result Result
	err := h.do(nil, func(s *session) (err error) {
		result, err = s.run(link, append([]string{name}, args...), s.process.Process.Pid, nil)
		return err
	})
	return result, err
}
