package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// tailPoll is the pause between two looks for more lines.
const tailPoll = 200 * time.Millisecond

var logsCommand = command{
	args: "[<app>] [--num <lines>] [--tail]",
	text: "Shows what has happened to public ports",
	more: `
A line an event, of all apps or of one:

  switch   a deploy or a command has changed where a port leads
  heal     the daemon has, since a container was gone, was back, or had another address
  hold     a port has no container; new connections wait (setting hold)
  drain    a former container has connections still
  cut      so many of them were closed since their time is over (setting old-connections)
  ended    a former container has ended, and at most so many connections with it
  down     the engine has ended, and with it the connections that it had
  lost     how many of them an app had, a moment before
  up       the engine is back, so long after it was last seen to work
  close    public ports were closed by a command
  unserved so many connections were closed in a deploy without checks, since no container was up
  reload   HAProxy was reloaded, and why
  refuse   what was asked for and not granted
  engine   the ports were moved to another engine
  problem, solved   what is wrong, and when it is no more

What HAProxy and the daemon say besides is in their services' logs: journalctl -u dokku-expose -u dokku-expose-haproxy.

Over ssh write --num: Dokku loses the word -n there.

  dokku expose:logs mail
  dokku expose:logs --tail`,
	flags: func(flags *pflag.FlagSet) {
		flags.IntP("num", "n", 100, "how many of the last lines to show")
		flags.BoolP("tail", "t", false, "go on with what comes until interrupted")
	},
	run: func(ctx context.Context, h *Host, call call) error {
		num, err := call.flags.GetInt("num")
		if err != nil {
			return err
		}
		tail, err := call.flags.GetBool("tail")
		if err != nil {
			return err
		}
		if num < 0 {
			return usageError("logs", fmt.Sprintf("--num is %d: it must be 0 or more", num))
		}
		wanted := func(string) bool { return true }
		if h.env.App != "" || len(call.args) > 0 {
			app, rest, err := h.takeApp(call.args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return usageError("logs", fmt.Sprintf("unexpected argument %q", rest[0]))
			}
			wanted = func(line string) bool { return field(line, "app") == app }
		}
		return h.eventLog().show(ctx, h.stdout, num, tail, wanted)
	},
}

// show prints the last num lines that are wanted, and with tail all that come after them until ctx ends.
func (l eventLog) show(ctx context.Context, out io.Writer, num int, tail bool, wanted func(string) bool) error {
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
		if !tail || !sleep(ctx, tailPoll) {
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
