package setup

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// remedy is what an operator can do where HAProxy can't be had.
const remedy = "install HAProxy 2.4 or newer, then run `dokku plugin:install`"

// installHAProxy installs the distribution's package when no HAProxy is there, and refuses one that is too old.
func (s *setup) installHAProxy(ctx context.Context) error {
	program, err := exec.LookPath("haproxy")
	if err != nil {
		if program, err = s.installPackage(ctx); err != nil {
			return err
		}
	}

	banner, err := answer(ctx, program, "-v")
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", program, err)
	}
	if !newEnough(banner) {
		return fmt.Errorf("%s is too old or no HAProxy (it says %.60q): %s", program, banner, remedy)
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
	return exec.LookPath("haproxy")
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
