package main

import (
	"errors"
	"strings"

	"dokku-expose/internal/rig"
)

// engine is one to be measured: a value of the setting `engine`, and the services that run with it.
type engine struct {
	name string
	// services start what runs, in this order; the first one serves the ports.
	services []func(*rig.Host) error
}

var engines = []engine{
	{"haproxy", []func(*rig.Host) error{(*rig.Host).StartHAProxy, (*rig.Host).StartDaemon}},
	{"builtin", []func(*rig.Host) error{(*rig.Host).StartDaemon}},
}

func engineNames() string {
	var names []string
	for _, e := range engines {
		names = append(names, e.name)
	}
	return strings.Join(names, ",")
}

// stop ends all services.
func stop(h *rig.Host) error { return errors.Join(h.StopDaemon(), h.StopHAProxy()) }
