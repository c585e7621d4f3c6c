package hooks

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxLog is the size in bytes at which the log is put aside for a new one; the one put aside before that goes.
const maxLog = 1 << 20

// eventLog is a file that hooks, commands and the daemon add lines to, each in a process of its own.
type eventLog struct{ path string }

func (h *Host) eventLog() eventLog { return eventLog{filepath.Join(h.env.DataDir(), "events.log")} }

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
	if err != nil {
		return err
	}
	// Closing gives the lock back.
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(line); err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Size() > maxLog {
		err = os.Rename(l.path, l.former())
	}
	return err
}

// open opens the file that has the name, and locks it: only then does it keep the name until it is closed.
func (l eventLog) open() (*os.File, error) {
	for {
		file, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if err == nil {
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
