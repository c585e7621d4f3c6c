package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildApp builds internal/testapp in the folder dir, for Options.App. It needs the Go command and this module's source. The
// program is static: the test app's image has nothing else in it.
func BuildApp(ctx context.Context, dir string) (string, error) {
	return goBuild(ctx, filepath.Join(dir, "testapp"), "dokku-expose/internal/testapp", false, "-ldflags=-s -w")
}

// BuildPlugin builds the plugin's binary in the folder dir, for Options.Binary, under the same conditions, as it is installed.
func BuildPlugin(ctx context.Context, dir string) (string, error) {
	return goBuild(ctx, filepath.Join(dir, "dokku-expose"), "dokku-expose/cmd/dokku-expose", false)
}

// BuildService builds the plugin's binary for Options.Service: with the race detector where this program has it, which the hooks
// are too short for. It is "" where there is no need for another binary.
func BuildService(ctx context.Context, dir string) (string, error) {
	if !race {
		return "", nil
	}
	return goBuild(ctx, filepath.Join(dir, "dokku-expose-race"), "dokku-expose/cmd/dokku-expose", true, "-race")
}

// goBuild builds a program, with the help of C or without.
func goBuild(ctx context.Context, program, pkg string, cgo bool, flags ...string) (string, error) {
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", program}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	enabled := "0"
	if cgo {
		enabled = "1"
	}
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+enabled)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("rig: go build %s: %w\n%s", pkg, err, out)
	}
	return program, nil
}
