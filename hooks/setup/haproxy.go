package setup

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// remedy is what an operator can do where HAProxy can't be had.
const remedy = "install HAProxy 2.4 or newer, then run `sudo dokku plugin:install`; or use the built-in engine: dokku expose:set --global engine builtin"

// installHAProxy tells whether there is a HAProxy to use. Where there must be one, the distribution's package is installed, and
// one that is too old is an error.
func (s *setup) installHAProxy(ctx context.Context) (usable bool, err error) {
	if !s.HAProxy {
		return s.usableHAProxy(ctx)
	}
	program, err := haproxyProgram()
	if err != nil {
		if program, err = s.installPackage(ctx); err != nil {
			return false, err
		}
	}
	return true, check(ctx, program)
}

// usableHAProxy tells whether there is a HAProxy that is new enough.
func (s *setup) usableHAProxy(ctx context.Context) (bool, error) {
	program, err := haproxyProgram()
	if err != nil {
		return false, nil
	}
	err = check(ctx, program)
	if errors.Is(err, errTooOld) && !s.HAProxy {
		return false, nil
	}
	return err == nil, err
}

func haproxyProgram() (string, error) { return exec.LookPath("haproxy") }

var errTooOld = errors.New("is too old or no HAProxy")

// check tells whether the program is a HAProxy that is new enough.
func check(ctx context.Context, program string) error {
	banner, err := answer(ctx, program, "-v")
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", program, err)
	}
	if !newEnough(banner) {
		return fmt.Errorf("%s %w (it says %.60q): %s", program, errTooOld, banner, remedy)
	}
	return nil
}

// installPackage uses apt. The package brings a service of its own, which we neither use nor touch: its default configuration
// listens nowhere.
func (s *setup) installPackage(ctx context.Context) (program string, err error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", fmt.Errorf("HAProxy is not installed, and there is no apt-get to install it with: %s", remedy)
	}
	s.say("Installing HAProxy from the distribution")
	// Unattended upgrades hold the lock for a minute or two now and then.
	const wait = "DPkg::Lock::Timeout=180"
	for _, args := range [][]string{
		{"-o", wait, "-q", "update"},
		{"-o", wait, "-q", "install", "-y", "--no-install-recommends", "haproxy"},
	} {
		if err := run(ctx, "apt-get", args...); err != nil {
			return "", fmt.Errorf("HAProxy could not be installed: %w\n%s", err, remedy)
		}
	}
	return haproxyProgram()
}

// version is as `haproxy -v` prints it: "HA-Proxy version" until 2.3.
var version = regexp.MustCompile(`^HA-?Proxy version (\d+)\.(\d+)`)

func newEnough(banner string) bool {
	m := version.FindStringSubmatch(banner)
	if m == nil {
		return false
	}
	major, err1 := strconv.Atoi(m[1])
	minor, err2 := strconv.Atoi(m[2])
	return err1 == nil && err2 == nil && (major > 2 || major == 2 && minor >= 4)
}
