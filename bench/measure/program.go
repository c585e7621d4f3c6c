package measure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// Main runs a benchmark until it ends or is interrupted, and returns the exit code.
func Main(run func(ctx context.Context, args []string, stdout, stderr io.Writer) int, roles Roles) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			if err := role(ctx, os.Args[2:], os.Stdin, os.Stdout); err != nil {
				fmt.Fprintf(os.Stderr, "%s %s: %v\n", filepath.Base(os.Args[0]), os.Args[1], err)
				return 1
			}
			return 0
		}
	}
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// Roles are what a benchmark does as a process of its own, by the first argument.
type Roles map[string]func(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error

// ErrMissing tells that a program is not installed.
var ErrMissing = errors.New("is not installed")

// Find returns the path of a program; pkg is its package on Debian, whose place for it is not on every user's PATH.
func Find(program, pkg string) (string, error) {
	for _, name := range []string{program, filepath.Join("/usr/sbin", program), filepath.Join("/usr/local/sbin", program)} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s %w (Debian: apt-get install %s)", program, ErrMissing, pkg)
}

// IP runs commands of iproute2.
func IP(batch string) error {
	command := exec.Command("ip", "-batch", "-")
	command.Stdin = strings.NewReader(batch)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -batch (Debian: apt-get install iproute2): %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
