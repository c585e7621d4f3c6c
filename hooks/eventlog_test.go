package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

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
		if got := field(test.line, test.key); got != test.want {
			t.Errorf("%s of %q is %q, want %q", test.key, test.line, got, test.want)
		}
	}
}

// Many write at once, and the file is put aside in between: whoever follows it sees each line, whole and once.
func TestLogOfManyWriters(t *testing.T) {
	const writers, lines = 4, 3000
	log := eventLog{path: filepath.Join(t.TempDir(), "events.log")}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reader, writer := io.Pipe()
	shown := make(chan error, 1)
	go func() {
		err := log.show(ctx, writer, writers*lines, true, func(string) bool { return true })
		shown <- errors.Join(err, writer.Close())
	}()
	var all sync.WaitGroup
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
			seen[field(line, "msg")]++
		}
	}
	all.Wait()
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
		t.Errorf("nothing was put aside: %v", err)
	}
}

// Whoever was stopped with the file locked must not stop everybody else.
func TestLogThatSomebodyHolds(t *testing.T) {
	log := eventLog{filepath.Join(t.TempDir(), "events.log"), new(atomic.Bool)}
	holder, err := log.open()
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	const lines = 1000
	for n := range lines {
		if err := log.write(fmt.Appendf(nil, "msg=%d\n", n)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(log.path)
	if n := strings.Count(string(text), "\n"); err != nil || n != lines {
		t.Errorf("%d lines, %v, want %d", n, err, lines)
	}
}

// A line that there is no room for is left out as a whole.
func TestLogOnAFullDisk(t *testing.T) {
	need.Mounts(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", 2*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	log := eventLog{path: filepath.Join(dir, "events.log")}
	line := []byte("msg=" + strings.Repeat("x", 995) + "\n")
	var failed error
	written := 0
	for ; failed == nil; written++ {
		failed = log.write(line)
	}
	text, err := os.ReadFile(log.path)
	if err != nil || !errors.Is(failed, syscall.ENOSPC) || string(text) != strings.Repeat(string(line), written-1) {
		t.Errorf("%v, %v; the log has %d bytes, want %d lines of %d", err, failed, len(text), written-1, len(line))
	}
}
