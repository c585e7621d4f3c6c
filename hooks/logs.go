package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	former, err := os.ReadFile(l.former())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	reader := logReader{path: l.path}
	defer reader.close()
	text, err := reader.more()
	if err != nil {
		return err
	}
	lines := slices.DeleteFunc(slices.Collect(strings.Lines(string(former)+text)), func(line string) bool { return !wanted(line) })
	for _, line := range lines[max(0, len(lines)-num):] {
		if _, err := io.WriteString(out, line); err != nil {
			return err
		}
	}
	for tail && sleep(ctx, tailPoll) {
		text, err := reader.more()
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			if !wanted(line) {
				continue
			}
			if _, err := io.WriteString(out, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// logReader reads the whole lines that are added to the file of that name, which may be another one each time.
type logReader struct {
	path string
	file *os.File
	part string // of a line
}

func (r *logReader) more() (text string, err error) {
	for {
		if r.file == nil {
			r.file, err = os.Open(r.path)
			if errors.Is(err, fs.ErrNotExist) {
				return text, nil
			}
			if err != nil {
				return "", err
			}
		}
		// Asked before reading: nothing comes to a file that has been replaced.
		replaced, err := r.replaced()
		if err != nil {
			return "", err
		}
		more, err := io.ReadAll(r.file)
		if err != nil {
			return "", err
		}
		whole := r.part + string(more)
		end := strings.LastIndexByte(whole, '\n') + 1
		text, r.part = text+whole[:end], whole[end:]
		if !replaced {
			return text, nil
		}
		r.close()
	}
}

// replaced tells that the file has been put aside, and another one begun.
func (r *logReader) replaced() (bool, error) {
	opened, err := r.file.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && !os.SameFile(opened, named), err
}

func (r *logReader) close() {
	if r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
}
