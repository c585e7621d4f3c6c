package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dokku-expose/internal/need"
)

func TestField(t *testing.T) {
	for _, test := range []struct{ line, key, want string }{
		{"time=now msg=switch app=mail public=25\n", "app", "mail"},
		{`msg=refuse app=mail error="no app=chat \"here\"" public=25`, "public", "25"},
		{`msg=refuse error="no app=chat" app=mail`, "app", "mail"},
		{`msg="two words"`, "msg", "two words"},
		{"msg=switch", "app", ""},
		{"app=", "app", ""},
		{"gibberish", "app", ""},
		{"", "app", ""},
	} {
		if got := Field(test.line, test.key); got != test.want {
			t.Errorf("%s of %q is %q, want %q", test.key, test.line, got, test.want)
		}
	}
}

// Many write at once, each line through a file of its own as processes do, and the daemon renames the log in between: a reader sees
// each line, whole and once.
func TestLogOfManyWriters(t *testing.T) {
	const writers, lines = 4, 3000
	log := eventLog{path: filepath.Join(t.TempDir(), "events.log")}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	reader, writer := io.Pipe()
	shown := make(chan error, 1)
	go func() {
		err := log.Show(ctx, writer, writers*lines, true, func(string) bool { return true })
		shown <- errors.Join(err, writer.Close())
	}()
	var all sync.WaitGroup
	renaming, writing := sync.WaitGroup{}, make(chan struct{})
	renaming.Go(func() {
		for {
			select {
			case <-writing:
				return
			default:
			}
			if err := log.rotate(); err != nil {
				t.Error(err)
			}
		}
	})
	for w := range writers {
		all.Go(func() {
			for n := range lines {
				if err := log.write(fmt.Appendf(nil, "msg=%d-%d text=%s\n", w, n, strings.Repeat("x", 100))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := make(map[string]int)
	text := make([]byte, 0, 4096)
	chunk := make([]byte, 32<<10)
	for len(seen) < writers*lines {
		n, err := reader.Read(chunk)
		if err != nil {
			t.Fatalf("%v after %d lines", err, len(seen))
		}
		text = append(text, chunk[:n]...)
		for {
			line, rest, found := strings.Cut(string(text), "\n")
			if !found {
				break
			}
			text = []byte(rest)
			if !strings.HasSuffix(line, "xxx") {
				t.Errorf("a line is %q", line)
			}
			seen[Field(line, "msg")]++
		}
	}
	all.Wait()
	close(writing)
	renaming.Wait()
	for name, n := range seen {
		if n != 1 {
			t.Errorf("line %s was shown %d times", name, n)
		}
	}
	stop()
	if err := <-shown; err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(log.former()); err != nil || info.Size() < maxLog {
		t.Errorf("the log was not renamed: %v", err)
	}
}

// A process that opened the log before the daemon renamed it loses no line, and neither does a reader.
func TestLogOfALateWriter(t *testing.T) {
	log := eventLog{filepath.Join(t.TempDir(), "events.log")}
	reader := logReader{log: log}
	defer reader.close()
	want := func(when, want string) {
		t.Helper()
		if text, err := reader.more(); err != nil || text != want {
			t.Errorf("%s: got %q, %v, want %q", when, text, err, want)
		}
	}
	want("without a file", "")
	long := "msg=" + strings.Repeat("x", maxLog) + "\n"
	write(t, log, long)
	late, err := os.OpenFile(log.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	want("before the daemon renames it", long)
	for range 2 {
		if err := log.rotate(); err != nil {
			t.Fatal(err)
		}
	}
	write(t, log, "msg=new\n")
	want("after it", "msg=new\n")
	for _, part := range []struct{ text, want string }{{"msg=la", ""}, {"te\n", "msg=late\n"}} {
		if _, err := late.WriteString(part.text); err != nil {
			t.Fatal(err)
		}
		want("after "+part.text+" in the renamed file", part.want)
	}
}

func write(t *testing.T, log eventLog, line string) {
	t.Helper()
	if err := log.write([]byte(line)); err != nil {
		t.Fatal(err)
	}
}

// A line that there is no room for is left out as a whole, and fails no hook. When there is room again, lines are whole.
func TestLogOnAFullDisk(t *testing.T) {
	need.Mounts(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", 3*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, os.Getpagesize()), 0o600); err != nil {
		t.Fatal(err)
	}
	log := eventLog{filepath.Join(dir, "events.log")}
	line := "msg=" + strings.Repeat("x", 995) + "\n"
	var failed error
	written := 0
	for ; failed == nil; written++ {
		failed = log.write([]byte(line))
	}
	want := func(lines int) {
		t.Helper()
		text, err := os.ReadFile(log.path)
		if err != nil || string(text) != strings.Repeat(line, lines) {
			t.Errorf("%v; the log has %d bytes, want %d lines of %d", err, len(text), lines, len(line))
		}
	}
	written--
	want(written)
	if !errors.Is(failed, io.ErrShortWrite) {
		t.Errorf("the line before failed with %v", failed)
	}
	if n, err := log.Write([]byte(line)); n != len(line) || err != nil {
		t.Errorf("the caller is told of it: %d, %v", n, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	write(t, log, line)
	want(written + 1)
}
