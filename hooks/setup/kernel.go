package setup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A connection to a container that ends after its client's leaves a socket in TIME_WAIT here, which keeps its local port for a
// minute. Clients that only read a greeting use up all ports to a container at some 470 connections a second, and at half of that
// the kernel's search for a free port takes 10 ms of CPU each time. With tcp_tw_reuse=1 the kernel gives such a port to a new
// connection after a second, which TCP's timestamps make safe (RFC 6191): 1,500 a second lose none, and a connect takes the same
// time whether there are a hundred such sockets or 28,000. By default that goes for loopback addresses only (2).
//
// The other ways, as `make bench-ports` measures them or as the kernel has it:
//   - a reset in place of the end: the app would see ECONNRESET where its client said goodbye, and a half-close would be cut. Once
//     the app has answered the end, the kernel has made the socket one in TIME_WAIT already, and a reset comes too late;
//   - a wider ip_local_port_range: at most twice the ports, and services may be listening among them;
//   - more source addresses: apps would see other clients than 172.17.0.1, which they may trust;
//   - source ports that the engine chooses (bind before connect) need no setting, but a port that is bound so is one that no other
//     program of the host gets, and HAProxy would keep a list of ports for each server line.
var reusePorts = kernelSetting{
	key: "net.ipv4.tcp_tw_reuse", want: "1",
	live: "/proc/sys/net/ipv4/tcp_tw_reuse",
	// Below /usr/local, so that an operator's file in /etc goes before it.
	file: "/usr/local/lib/sysctl.d/60-dokku-expose.conf",
}

// kernelSetting is a setting of the kernel's that is changed at the installation, and at each boot by its file.
type kernelSetting struct {
	key, want  string
	live, file string
}

// beforePrefix begins the line of the file that keeps what was set before.
const beforePrefix = "# Before the installation: "

// install changes the setting once. What an operator makes of it later stays. Where it can't be changed, as in a container whose
// /proc/sys is read-only, nothing is done: expose:check names the setting when ports run short.
func (k kernelSetting) install(s *setup) error {
	if _, err := os.Stat(k.file); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	before, err := os.ReadFile(k.live)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	before = bytes.TrimSpace(before)
	if string(before) == k.want {
		return nil
	}
	if err := os.WriteFile(k.live, before, 0o644); isReadOnly(err) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(k.file), 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("# Written by dokku-expose: short connections to containers must not use up the host's local ports.\n%s%s\n%s = %s\n", beforePrefix, before, k.key, k.want)
	if _, err := replace(k.file, []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(k.live, []byte(k.want), 0o644); err != nil {
		return err
	}
	s.say("Set %s from %s to %s, for short connections to containers (%s)", k.key, before, k.want, k.file)
	return nil
}

func isReadOnly(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// uninstall takes the change back, unless somebody has changed the setting since.
func (k kernelSetting) uninstall(s *setup) error {
	text, err := os.ReadFile(k.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		before, found := strings.CutPrefix(strings.TrimSpace(line), beforePrefix)
		if !found {
			continue
		}
		now, err := os.ReadFile(k.live)
		if err == nil && string(bytes.TrimSpace(now)) == k.want {
			err = os.WriteFile(k.live, []byte(before), 0o644)
		}
		if err != nil {
			return err
		}
		s.say("Set %s back to %s", k.key, before)
	}
	if err := os.Remove(k.file); err != nil {
		return err
	}
	// Made by install where it was missing.
	if err := os.Remove(filepath.Dir(k.file)); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}
