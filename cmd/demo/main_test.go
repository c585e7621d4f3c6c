package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

func TestSaysAtOnceWhatTheMachineLacks(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/docker.sock")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-engine", "haproxy"}, nil, &stdout, &stderr); code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	for _, want := range []string{"make demo", "apt-get install docker.io", "docker does not answer", "docker.sock"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("no %q in %q", want, stderr.String())
		}
	}
	if stdout.Len() > 0 {
		t.Errorf("something was begun: %s", &stdout)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stderr bytes.Buffer
	if code := run(ctx, nil, nil, io.Discard, &stderr); code != 130 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit status %d, message %q; want 130", code, &stderr)
	}
}

func TestUnknownFlag(t *testing.T) {
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"--forever"}, nil, io.Discard, &stderr); code != 2 || !strings.Contains(stderr.String(), "-keep") {
		t.Errorf("exit status %d, message %q; want 2 and the flags", code, &stderr)
	}
}

func TestUnknownEngine(t *testing.T) {
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"-engine", "nginx"}, nil, io.Discard, &stderr); code != 2 || !strings.Contains(stderr.String(), "builtin or haproxy") {
		t.Errorf("exit status %d, message %q; want 2 and the engines", code, &stderr)
	}
}

// Where there is no Docker, versions of the app are processes.
func TestNeedsNothingButGo(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/docker.sock")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), nil, nil, &stdout, &stderr); code != 0 {
		t.Errorf("exit status %d, want 0\n%s%s", code, &stdout, &stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if last := lines[len(lines)-1]; !strings.HasSuffix(last, " connections tried, 0 failed, 50 held open, 0 broken") {
		t.Errorf("the last line is %q", last)
	}
}

func TestPrefixer(t *testing.T) {
	for _, test := range []struct {
		name   string
		writes []string
		want   string
	}{
		{"a line", []string{"a\n"}, "remote: a\n"},
		{"lines", []string{"a\nb\n"}, "remote: a\nremote: b\n"},
		{"a line in parts", []string{"a", "b\n", "c"}, "remote: ab\n"},
		{"an empty line", []string{"\n"}, "remote:\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got bytes.Buffer
			p := &prefixer{w: &got, prefix: "remote: "}
			for _, text := range test.writes {
				if n, err := p.Write([]byte(text)); n != len(text) || err != nil {
					t.Errorf("wrote %d of %d, %v", n, len(text), err)
				}
			}
			if got.String() != test.want {
				t.Errorf("got %q, want %q", got.String(), test.want)
			}
		})
	}
}
