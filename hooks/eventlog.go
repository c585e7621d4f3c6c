package hooks

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// maxLog is the size in bytes at which the log is put aside for a new one; the one put aside before that goes.
const maxLog = 1 << 20

// eventLog is a file that hooks, commands and the daemon add lines to, each in a process of its own.
type eventLog struct {
	path string
	// stuck tells that another process has not let go of the file for longer than logPatience; nil where nobody remembers.
	stuck *atomic.Bool
}

func (h *Host) eventLog() eventLog {
	return eventLog{filepath.Join(h.env.DataDir(), "events.log"), new(atomic.Bool)}
}

// former is the log that was put aside.
func (l eventLog) former() string { return l.path + ".1" }

// Write adds a line. It never fails: what is logged has happened, and goes on, whether there is room for the line or not. Whoever
// caused it is told by other means too: the user of a command by its output, the daemon's by the service manager's log.
func (l eventLog) Write(line []byte) (int, error) {
	_ = l.write(line)
	return len(line), nil
}

func (l eventLog) write(line []byte) (err error) {
	file, err := l.open()
	if errors.Is(err, errStuck) {
		return l.append(line)
	}
	if err != nil {
		return err
	}
	// Closing gives the lock back.
	defer func() { err = errors.Join(err, file.Close()) }()
	before, err := file.Stat()
	if err != nil {
		return err
	}
	if _, err := file.Write(line); err != nil {
		// The disk is full. Half a line would be the beginning of the next one.
		return errors.Join(err, file.Truncate(before.Size()))
	}
	info, err := file.Stat()
	if err == nil && info.Size() > maxLog {
		err = os.Rename(l.path, l.former())
	}
	return err
}

// append adds a line to a file that can't be locked. At the worst it is in the one that is being put aside.
func (l eventLog) append(line []byte) error {
	file, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = file.Write(line)
	return errors.Join(err, file.Close())
}

// open opens the file that has the name, and locks it: only then does it keep the name until it is closed.
func (l eventLog) open() (*os.File, error) {
	for {
		file, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, err
		}
		if err = l.lock(file); err == nil {
			var opened, named os.FileInfo
			if opened, err = file.Stat(); err == nil {
				named, err = os.Stat(l.path)
			}
			if err == nil && os.SameFile(opened, named) {
				return file, nil
			}
		}
		_ = file.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// logPatience is how long a line waits for those of others, once for a process: deploys wait with it.
const logPatience = time.Second

// errStuck tells that another process, which was stopped, does not let go of the file.
var errStuck = errors.New("another process has the log")

func (l eventLog) lock(file *os.File) error {
	for over := time.Now().Add(logPatience); ; time.Sleep(time.Millisecond) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			if err == nil && l.stuck != nil {
				l.stuck.Store(false)
			}
			return err
		case l.stuck != nil && l.stuck.Load():
			return errStuck
		case time.Now().After(over):
			if l.stuck != nil {
				l.stuck.Store(true)
			}
			return errStuck
		}
	}
}

// field is the value of a key in a line as slog.TextHandler writes it, "" when it has no such key.
func field(line, key string) string {
	for rest := strings.TrimSpace(line); rest != ""; {
		name, after, found := strings.Cut(rest, "=")
		if !found {
			return ""
		}
		value, quoted := after, false
		if text, err := strconv.QuotedPrefix(after); err == nil && strings.HasPrefix(after, `"`) {
			value, quoted = text, true
		} else if end := strings.IndexByte(after, ' '); end >= 0 {
			value = after[:end]
		}
		rest = strings.TrimPrefix(after[len(value):], " ")
		if name != key {
			continue
		}
		if quoted {
			if text, err := strconv.Unquote(value); err == nil {
				return text
			}
		}
		return value
	}
	return ""
}
