package main

import (
	"context"
	"fmt"
	"os/exec"

	"dokku-expose/bench/measure"
)

// dockerProxy is the program that Docker runs for each port that it publishes.
func dockerProxy(_ context.Context, s site) (*exec.Cmd, error) {
	binary, err := measure.Find("docker-proxy", "docker.io")
	if err != nil {
		return nil, err
	}
	// It tells on descriptor 3 that it serves, and would write to one of its own there.
	return exec.Command("sh", "-c", `exec "$0" "$@" 3>/dev/null`, binary, "-proto", string(s.mode),
		"-host-ip", s.listen.Addr().String(), "-host-port", fmt.Sprint(s.listen.Port()),
		"-container-ip", s.origin.Addr().String(), "-container-port", fmt.Sprint(s.origin.Port())), nil
}
