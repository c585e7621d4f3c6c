package kubernetes

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The programs, and a component that the latter has.
const (
	etcd       = "etcd"
	kubernetes = "kubernetes"
	apiserver  = "kube-apiserver"
)

// packages are those that they are built from, in the module of programs/go.mod.
var packages = map[string]string{etcd: "go.etcd.io/etcd/server/v3", kubernetes: "."}

// programsVariable names the folder of the programs. Tests fail without them when it is set, as `make test-k3s` does.
const programsVariable = "DOKKU_EXPOSE_KUBERNETES"

// Build builds the programs, unless the cache has them, and returns their folder. It says on progress what it does.
func Build(ctx context.Context, progress io.Writer) (dir string, err error) {
	source, dir, err := folders(ctx)
	if err != nil || complete(dir) == nil {
		return dir, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(made)) }()
	fmt.Fprintf(progress, "Building Kubernetes for tests, once: 9 minutes of CPU time, 1 GB in Go's build cache, 150 MB in %s\n", dir)
	for name, pkg := range packages {
		fmt.Fprintf(progress, "go build %s\n", pkg)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(made, name), pkg)
		cmd.Dir, cmd.Stdout, cmd.Stderr = source, progress, progress
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("go build %s in %s: %w", pkg, source, err)
		}
	}
	// Another build may have come first.
	if err := os.Rename(made, dir); err != nil && complete(dir) != nil {
		return "", err
	}
	return dir, nil
}

// folders returns that of the programs' module, and that of the programs in the user's cache, which has a name for each set of versions.
func folders(ctx context.Context) (source, programs string, err error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOMOD")
	module, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("go env GOMOD: %w", err)
	}
	source = filepath.Join(filepath.Dir(string(bytes.TrimSpace(module))), "internal", "kubernetes", "programs")
	var sum []byte
	for _, name := range []string{"go.mod", "main.go"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", "", err
		}
		sum = fmt.Appendf(sum, "%x", sha256.Sum256(text))
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", err
	}
	return source, filepath.Join(cache, "dokku-expose", fmt.Sprintf("kubernetes-%.6x", sha256.Sum256(sum))), nil
}

// complete tells whether a folder has all programs.
func complete(dir string) error {
	for name := range packages {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// programs returns the folder of the programs. Without them the test is skipped, with CI=true too: they are too much for a run of all tests.
func programs(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(programsVariable); dir != "" {
		if err := complete(dir); err != nil {
			t.Fatalf("%s names a folder without Kubernetes: %v", programsVariable, err)
		}
		return dir
	}
	_, dir, err := folders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := complete(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skip("this test needs a real Kubernetes, which `make test-k3s` builds")
	} else if err != nil {
		t.Fatal(err)
	}
	return dir
}
