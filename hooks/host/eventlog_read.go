package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Field is the value of a key in a line as slog.TextHandler writes it, "" when it has no such key.
func Field(line, key string) string {
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

// tailPoll is the pause between two looks for more lines.
const tailPoll = 200 * time.Millisecond

// Show prints the last num lines that are wanted, and with tail all that come after them until ctx ends.
func (l eventLog) Show(ctx context.Context, out io.Writer, num int, tail bool, wanted func(string) bool) error {
	reader := logReader{log: l}
	defer reader.close()
	for {
		text, err := reader.more()
		if err != nil {
			return err
		}
		lines := slices.DeleteFunc(slices.Collect(strings.Lines(text)), func(line string) bool { return !wanted(line) })
		for _, line := range lines[max(0, len(lines)-num):] {
			if _, err := io.WriteString(out, line); err != nil {
				return err
			}
		}
		num = math.MaxInt
		if !tail || !Sleep(ctx, tailPoll) {
			return nil
		}
	}
}

// logReader reads the whole lines that are appended to the log. It stays with a renamed file until the next one is renamed, for the
// processes that opened it before.
type logReader struct {
	log   eventLog
	files []*os.File // the oldest first
}

func (r *logReader) more() (string, error) {
	if err := r.open(); err != nil {
		return "", err
	}
	var text strings.Builder
	for _, file := range r.files {
		more, err := io.ReadAll(file)
		if err != nil {
			return "", err
		}
		whole := bytes.LastIndexByte(more, '\n') + 1
		text.Write(more[:whole])
		if _, err := file.Seek(int64(whole-len(more)), io.SeekCurrent); err != nil {
			return "", err
		}
	}
	for len(r.files) > 2 {
		_ = r.files[0].Close()
		r.files = r.files[1:]
	}
	return text.String(), nil
}

// open adds the files that are new. It opens the current one first: when that is renamed meanwhile, it is merely found again.
func (r *logReader) open() error {
	known := len(r.files)
	for _, path := range []string{r.log.path, r.log.former()} {
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if slices.ContainsFunc(r.files, func(other *os.File) bool { return sameFile(file, other) }) {
			_ = file.Close()
			continue
		}
		r.files = append(r.files, file)
	}
	slices.Reverse(r.files[known:])
	return nil
}

func sameFile(a, b *os.File) bool {
	one, err := a.Stat()
	other, otherErr := b.Stat()
	return err == nil && otherErr == nil && os.SameFile(one, other)
}

func (r *logReader) close() {
	for _, file := range r.files {
		_ = file.Close()
	}
}
