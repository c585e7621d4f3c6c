package hooks_test

import (
	"os"
	"testing"

	"dokku-expose/hooks"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/rig/rigtest"
)

func TestMain(m *testing.M) { os.Exit(rigtest.Run(m)) }

// newHost is a Dokku host with the plugin as its installation sets it up.
func newHost(t *testing.T, change ...func(*rig.Options)) *rig.Host {
	t.Helper()
	return rigtest.New(t, append([]func(*rig.Options){func(o *rig.Options) {
		o.Triggers, o.Subcommands = hooks.Triggers(), hooks.Subcommands()
		o.Daemon = true
	}}, change...)...)
}
