package main

import "errors"

// mode is how clients and proxies talk in a comparison.
type mode string

const (
	overTCP mode = "tcp"
	overTLS mode = "tls"
	overUDP mode = "udp"
)

// set is the flag of that mode.
func (m *mode) set(to mode) func(string) error {
	return func(string) error {
		if *m != overTCP {
			return errors.New("a comparison is of one of -tls and -udp")
		}
		*m = to
		return nil
	}
}

// reference is the name of the peer that all others are compared with.
func (m mode) reference() string {
	if m == overUDP {
		return "nginx"
	}
	return "haproxy"
}

// kinds are the kinds of measurements that there are.
func (m mode) kinds() []kind {
	if m == overUDP {
		return datagramKinds
	}
	return kinds
}
