package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// run executes a program; its output is part of the error.
func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// answer executes a program that answers a question with a word on its standard output; its exit code is part of the answer
// and no error.
func answer(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return string(bytes.TrimSpace(out)), nil
}

// asDokku runs a subcommand of the installed binary as Dokku's user, with all its groups: the group of HAProxy's account may
// be new.
func (s *setup) asDokku(ctx context.Context, subcommand string) error {
	u, err := user.Lookup(s.User)
	if err != nil {
		return fmt.Errorf("user %s: %w: is Dokku installed?", s.User, err)
	}
	uid, gid, err := ids(u)
	if err != nil {
		return err
	}
	names, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("groups of user %s: %w", s.User, err)
	}
	groups := make([]uint32, 0, len(names))
	for _, name := range names {
		id, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return fmt.Errorf("group id of user %s: %w", s.User, err)
		}
		groups = append(groups, uint32(id))
	}

	cmd := exec.CommandContext(ctx, Binary, subcommand)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "HOME="+u.HomeDir, "USER="+u.Username, "LOGNAME="+u.Username,
		"DOKKU_ROOT="+s.DokkuRoot, "DOKKU_LIB_ROOT="+s.LibRoot)
	cmd.Stdout, cmd.Stderr = s.Stdout, s.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: groups}}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("`%s %s` as user %s: %w (what it printed stands above)", Binary, subcommand, s.User, err)
	}
	return nil
}

func ids(u *user.User) (uid, gid int, err error) {
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, fmt.Errorf("user id of %s: %w", u.Username, err)
	}
	if gid, err = strconv.Atoi(u.Gid); err != nil {
		return 0, 0, fmt.Errorf("group id of %s: %w", u.Username, err)
	}
	return uid, gid, nil
}
