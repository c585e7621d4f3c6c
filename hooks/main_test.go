package hooks_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"

	"dokku-expose/hooks"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/rig/rigtest"
)

// Tests of this package wait half of their time, for containers and for a Docker that hangs: without the flag -parallel three run at once
// for two cores.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", fmt.Sprint(3*runtime.GOMAXPROCS(0)/2)); err != nil {
			panic(err)
		}
	}
	os.Exit(rigtest.Run(m))
}

// newHost is a Dokku host with the plugin as its installation sets it up.
func newHost(t *testing.T, change ...func(*rig.Options)) *rig.Host {
	t.Helper()
	return rigtest.New(t, append([]func(*rig.Options){func(o *rig.Options) {
		o.Triggers, o.Subcommands = hooks.Triggers(), hooks.Subcommands()
		o.Daemon = true
	}}, change...)...)
}
