package listeners

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
)

// ErrInUse tells that a port can't be bound.
var ErrInUse = errors.New("the port is in use, if only by a socket that does not listen; choose another public port")

// TryBind binds l for a moment, without listening, so that no TCP client gets in between; a UDP client's datagram is lost, as it is while
// the port is closed. The error wraps [ErrInUse] when somebody has the port. For an unprivileged user it says nothing of ports below 1024.
func TryBind(l deploy.Frontend) error {
	family, addr := sockaddr(l)
	kind := unix.SOCK_STREAM
	if l.Proto == deploy.UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return errors.New("this host has no IPv6; choose an IPv4 address, or none")
	}
	if err != nil {
		return fmt.Errorf("a socket to try the port with: %w", err)
	}
	defer unix.Close(fd)
	// As the engines do it: connections of a listener that is gone (TIME_WAIT) don't count. UDP has none, and would share the port with
	// another socket that has the option.
	if kind == unix.SOCK_STREAM {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fmt.Errorf("a socket to try the port with: %w", err)
		}
	}
	if family == unix.AF_INET6 {
		only := 0
		if l.IP.IsValid() {
			only = 1
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return fmt.Errorf("a socket to try the port with: %w", err)
		}
	}
	switch err := unix.Bind(fd, addr); {
	case err == nil, errors.Is(err, unix.EACCES):
		return nil
	case errors.Is(err, unix.EADDRINUSE):
		return ErrInUse
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("this host has no address %s; choose one that it has, or none", l.IP)
	default:
		return fmt.Errorf("listening on it: %w", err)
	}
}

func sockaddr(l deploy.Frontend) (family int, addr unix.Sockaddr) {
	switch {
	case !l.IP.IsValid() && HasIPv6():
		return unix.AF_INET6, &unix.SockaddrInet6{Port: int(l.Port)}
	case l.IP.Is6():
		return unix.AF_INET6, &unix.SockaddrInet6{Port: int(l.Port), Addr: l.IP.As16()}
	case l.IP.Is4():
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(l.Port), Addr: l.IP.As4()}
	}
	return unix.AF_INET, &unix.SockaddrInet4{Port: int(l.Port)}
}

// HasIPv6 tells whether this host's kernel has IPv6 at all (ipv6.disable=1 takes it away).
func HasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return !errors.Is(err, unix.EAFNOSUPPORT)
	}
	_ = unix.Close(fd)
	return true
}
