package chaos_test

import (
	"flag"
	"os"
	"testing"

	"dokku-expose/internal/rig/rigtest"
)

var rounds = flag.Int("chaos.rounds", 0, "how often each fault is made; 0 is the short form, the most telling ones once")

func TestMain(m *testing.M) { os.Exit(rigtest.Run(m)) }
