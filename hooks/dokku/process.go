package dokku

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"github.com/prometheus/procfs"
)

// Process is a process of this host, known for good: the kernel gives its id to another one some day, but not with the same
// start time. The zero value is no process. As text it is "ID@START".
type Process struct {
	PID int
	// Start is when it started, in clock ticks since the host booted (/proc/PID/stat, field 22).
	Start uint64
}

// Deploy returns the process that makes the deploy which the hook belongs to. Outside of Dokku that is no process.
func (e Env) Deploy() (Process, error) {
	if e.PID == 0 {
		return Process{}, nil
	}
	p, err := FindProcess(e.PID)
	if err != nil {
		return Process{}, fmt.Errorf("can't find the process %d of this deploy (DOKKU_PID): %w", e.PID, err)
	}
	return p, nil
}

// FindProcess returns the process that has the id now.
func FindProcess(pid int) (Process, error) {
	stat, err := processStat(pid)
	return Process{PID: pid, Start: stat.Starttime}, err
}

// Alive tells whether the process still runs. One that can't be asked about counts as alive, since more is lost by taking a
// running deploy for dead than the other way round.
func (p Process) Alive() bool {
	if p.PID == 0 {
		return false
	}
	stat, err := processStat(p.PID)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return false
	}
	// Z and X are processes that have ended and wait for their parent to take notice.
	return err != nil || stat.Starttime == p.Start && stat.State != "Z" && stat.State != "X"
}

func processStat(pid int) (procfs.ProcStat, error) {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return procfs.ProcStat{}, err
	}
	return proc.Stat()
}

// MarshalText implements [encoding.TextMarshaler].
func (p Process) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%d@%d", p.PID, p.Start), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Process) UnmarshalText(text []byte) error {
	id, start, _ := strings.Cut(string(text), "@")
	pid, err := strconv.Atoi(id)
	if err != nil || pid < 0 {
		return fmt.Errorf("%q is not a process: expected ID@START", text)
	}
	ticks, err := strconv.ParseUint(start, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is not a process: expected ID@START", text)
	}
	*p = Process{PID: pid, Start: ticks}
	return nil
}
