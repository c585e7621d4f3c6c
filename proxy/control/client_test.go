package control

import (
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/proxy/proxytest"
)

func TestEngine(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		start := func(t *testing.T) deploy.Engine { return runDaemon(t, Options{Control: controlPath(t)}) }
		enginetest.Run(t, start)
		enginetest.RunOptions(t, start)
		enginetest.RunUDP(t, start)
	})
}

// A table's options are in the observation, and go along when another daemon takes over.
func TestOptionsAreHandedOver(t *testing.T) {
	control, v1 := controlPath(t), enginetest.NewServer(t, "v1")
	first := runDaemon(t, Options{Control: control})
	r := proxytest.RouteTo("mail", enginetest.FreePort(t), v1)
	options, err := deploy.ParseOptions("allow=127.0.0.1 accept-proxy=10.0.0.1 max-connections=1 rate=7/10s idle-timeout=1h balance=source")
	if err != nil {
		t.Fatal(err)
	}
	r.Options = options
	proxytest.Apply(t, first, r)
	old := proxytest.Dial(t, r.Key.Port)
	old.Greeting()
	second := runDaemon(t, Options{Control: control})
	if got := proxytest.Observe(t, second).Serving()[r.Key].Options; got != options {
		t.Errorf("serving with %s, want %s", got, options)
	}
	// The former daemon's connections do not count here.
	one, two := proxytest.Dial(t, r.Key.Port), proxytest.Dial(t, r.Key.Port)
	one.Greeting()
	old.Echo()
	one.Conn.Close()
	two.Greeting()
}
