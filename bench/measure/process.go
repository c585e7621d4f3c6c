package measure

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"

	"dokku-expose/internal/wait"
)

// stopPatience is how long a program may take to end before it is killed.
const stopPatience = 5 * time.Second

// Process is a program in the background with all its processes, which share a process group. [Process.Stop] must be called.
type Process struct {
	cmd  *exec.Cmd
	log  wait.Buffer
	done chan struct{}
}

// Start starts cmd, whose output is kept. It gets a SIGTERM even when this process is killed.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// What is left in the group may keep the output open.
	cmd.WaitDelay = stopPatience
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// `cat` ends with its standard input, which ends with this process.
	guard := exec.Command("sh", "-c", `cat; kill -TERM -- "-$1"`, "guard", strconv.Itoa(p.group()))
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	_, err := guard.StdinPipe()
	if err == nil {
		err = guard.Start()
	}
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		_ = syscall.Kill(-guard.Process.Pid, syscall.SIGKILL)
		_ = guard.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *Process) group() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Log is what it has printed.
func (p *Process) Log() string { return p.log.String() }

// Stop ends all its processes.
func (p *Process) Stop() {
	_ = syscall.Kill(-p.group(), syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopPatience):
	}
	_ = syscall.Kill(-p.group(), syscall.SIGKILL) // whoever is left
	<-p.done
}

// Usage is what the processes of a group have.
type Usage struct {
	// Processes counts them.
	Processes int
	// CPU is the time that they have used, in user mode and in the kernel, in steps of 10 ms for each process.
	CPU time.Duration
	// Memory is their resident memory in bytes; what they share is counted for each.
	Memory int64
	// Files counts their open files.
	Files int
}

// Usage is that of all its processes. That it has ended is an error, with what it said.
func (p *Process) Usage() (Usage, error) {
	u, err := GroupUsage(p.group())
	if err == nil && u.Processes == 0 {
		err = fmt.Errorf("%s has ended: %s", p.cmd.Path, strings.TrimSpace(p.Log()))
	}
	return u, err
}

// GroupUsage is that of the processes of a process group.
func GroupUsage(group int) (u Usage, err error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return Usage{}, err
	}
	for _, proc := range all {
		stat, err := proc.Stat()
		if err != nil || stat.PGRP != group || stat.State == "Z" {
			continue // it has ended meanwhile, or is somebody else's
		}
		files, err := proc.FileDescriptorsLen()
		if err != nil {
			return Usage{}, fmt.Errorf("process %d: %w", proc.PID, err)
		}
		u.Processes++
		u.CPU += time.Duration(stat.CPUTime() * float64(time.Second))
		u.Memory += int64(stat.ResidentMemory())
		u.Files += files
	}
	return u, nil
}

// RaiseFileLimit lets this process and what it starts open as many files as the host allows, which root may change, and
// returns that number.
func RaiseFileLimit(want uint64) (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	more := syscall.Rlimit{Cur: max(want, limit.Max), Max: max(want, limit.Max)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more); err == nil {
		return more.Cur, nil
	}
	// Said aloud even where it is so already: what the runtime has raised by itself it takes back for programs that it starts.
	limit.Cur = limit.Max
	return limit.Cur, os.NewSyscallError("setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
}
