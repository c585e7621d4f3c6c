package dokku

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// SourceImage returns the image that the app was deployed from last by `git:from-image`, "" for one deployed from source.
func (e Env) SourceImage(app string) (string, error) { return e.property("git", app, "source-image") }

// Committed reads a text file, without blanks around it, named by a clean path with slashes, of the commit that `ps:rebuild` would deploy. The error wraps
// fs.ErrNotExist where the app has no repository, no such commit, or no such file in it.
//
// The app's folder is its repository, bare, and the branch is the property deploy-branch, `master` at first (plugins/git,
// fn-git-computed-deploy-branch).
func (e Env) Committed(ctx context.Context, app, file string) ([]byte, error) {
	if err := ValidName(app); err != nil {
		return nil, err
	}
	repository := e.appDir(app)
	if _, err := os.Stat(filepath.Join(repository, "HEAD")); err != nil {
		return nil, err
	}
	branch, err := e.computed("git", app, "deploy-branch")
	if err != nil {
		return nil, err
	}
	if branch == "" {
		branch = "master"
	}
	git := func(args ...string) ([]byte, error) {
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(ctx, "git", append([]string{"--git-dir=" + repository}, args...)...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &stdout, &stderr
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("can't read the repository of %s: git %s: %w: %s", app, args[0], err, bytes.TrimSpace(stderr.Bytes()))
		}
		return bytes.TrimSpace(stdout.Bytes()), nil
	}
	object, err := git("rev-parse", "--verify", "--quiet", "refs/heads/"+branch+":"+file)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil, fmt.Errorf("%s of %s: %w", file, app, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	size, err := git("cat-file", "-s", string(object))
	if err != nil {
		return nil, err
	}
	if n, err := strconv.Atoi(string(size)); err != nil || n > maxFile {
		return nil, fmt.Errorf("%s of %s has %s bytes, more than %d", file, app, size, maxFile)
	}
	return git("cat-file", "blob", string(object))
}
