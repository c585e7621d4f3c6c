package control

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/proxy/proxytest"
)

const (
	// daemonEnv makes the test binary a daemon, whose processConfig it is.
	daemonEnv = "DOKKU_EXPOSE_TEST_DAEMON"
	// readyLine is what a daemon says when it answers.
	readyLine = "ready"
)

// processConfig says what a process of the test binary does as a daemon.
type processConfig struct {
	Control string
	// Truth is a file with the table that the daemon makes real at its start, and on SIGHUP.
	Truth string
	// Supervised has it be a supervisor with a worker.
	Supervised              bool
	Linger, Drain, Deadline time.Duration
	// Newer has it be of a program that knows a newer protocol, in which tables are others.
	Newer bool
}

func TestMain(m *testing.M) {
	if config := os.Getenv(daemonEnv); config != "" {
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		if err := beDaemon(config, log); err != nil {
			log.Error("daemon", "error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func beDaemon(text string, log *slog.Logger) error {
	var c processConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	spoken := ours()
	if c.Newer {
		spoken.version++
		spoken.since[callApply] = spoken.version
	}
	if c.Supervised {
		c.Supervised = false
		worker, err := json.Marshal(c)
		if err != nil {
			return err
		}
		command := exec.Command("/proc/self/exe")
		command.Env = append(os.Environ(), daemonEnv+"="+string(worker))
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		return Supervise(command, log)
	}
	orphaned, err := SupervisorGone()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	return run(ctx, Options{
		Control: c.Control, Version: "test", Log: log,
		Linger: c.Linger, Drain: c.Drain, Orphaned: orphaned,
		Deadline: func() time.Duration { return cmp.Or(c.Deadline, proxytest.Patience) },
		Reconcile: func(ctx context.Context, local *Local) error {
			if c.Truth == "" {
				fmt.Println(readyLine, os.Getpid())
			}
			for c.Truth != "" {
				content, err := os.ReadFile(c.Truth)
				if err != nil {
					return err
				}
				var table deploy.Table
				if err := json.Unmarshal(content, &table); err != nil {
					return err
				}
				if _, err := NewClient(ClientConfig{}, local).Apply(ctx, table); err != nil {
					log.Error("apply", "error", err)
				}
				fmt.Println(readyLine, os.Getpid())
				select {
				case <-ctx.Done():
					return nil
				case <-hup:
				}
			}
			return nil
		},
	}, spoken)
}

// process is a daemon in a process of its own.
type process struct {
	t       testing.TB
	command *exec.Cmd
	// worker is the process that serves.
	worker int
	ready  chan int
	ended  chan error
}

// startProcess starts a daemon and returns when it serves what is true.
func startProcess(t testing.TB, c processConfig) *process {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, command: exec.Command(os.Args[0]), ready: make(chan int, 100), ended: make(chan error, 1)}
	p.command.Env = append(os.Environ(), daemonEnv+"="+string(text))
	// A group of its own, so that a worker without a master ends with the test too.
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.command.Stdout, p.command.Stderr = in, in
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var pid int
			if _, err := fmt.Sscanf(lines.Text(), readyLine+" %d", &pid); err == nil {
				p.ready <- pid
			} else {
				t.Log(lines.Text())
			}
		}
	}()
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		p.ended <- p.command.Wait()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
		<-exited
		<-read
		out.Close()
	})
	p.worker = p.awaitReady()
	return p
}

func (p *process) awaitReady() int {
	p.t.Helper()
	select {
	case pid := <-p.ready:
		return pid
	case err := <-p.ended:
		p.t.Fatalf("the daemon ended: %v", err)
	case <-time.After(proxytest.Patience):
		p.t.Fatal("the daemon does not become ready")
	}
	return 0
}

// await waits until the process has ended, well.
func (p *process) await() {
	p.t.Helper()
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Errorf("the daemon ended with %v", err)
		}
	case <-time.After(proxytest.Patience):
		p.t.Fatal("the daemon does not end")
	}
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// truth writes what is true.
func truth(t testing.TB, path string, routes ...deploy.Route) {
	t.Helper()
	content, err := json.Marshal(deploy.Table{Routes: routes})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// folder is for sockets: their paths must be short.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "expose")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func controlPath(t testing.TB) string { return filepath.Join(folder(t), "control.sock") }
