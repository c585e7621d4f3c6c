package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildApp builds internal/testapp in the folder dir, for Options.App. It needs the Go command and this module's source.
func BuildApp(ctx context.Context, dir string) (string, error) {
	return goBuild(ctx, dir, "dokku-expose/internal/testapp", "-ldflags=-s -w")
}

// BuildPlugin builds the plugin's binary in the folder dir, for Options.Binary, under the same conditions.
func BuildPlugin(ctx context.Context, dir string) (string, error) {
	return goBuild(ctx, dir, "dokku-expose/cmd/dokku-expose")
}

// goBuild builds a static program: the test app's image has nothing else in it, and the plugin is installed that way.
func goBuild(ctx context.Context, dir, pkg string, flags ...string) (string, error) {
	program := filepath.Join(dir, filepath.Base(pkg))
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", program}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("rig: go build %s: %w\n%s", pkg, err, out)
	}
	return program, nil
}
