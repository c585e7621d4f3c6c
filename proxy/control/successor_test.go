package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

// predecessors are the process ids of the daemons that the one in charge took over from, and their connections.
func predecessorsOf(t testing.TB, c *Client) map[int]int {
	t.Helper()
	status := proxytest.Observe(t, c)
	all := make(map[int]int)
	for _, p := range status.Old {
		all[p.PID] = p.Connections
	}
	return all
}

// kill ends a daemon as a crash does.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// A daemon whose successor dies follows the next one, and connects nobody meanwhile.
func TestPredecessorFindsTheNextDaemon(t *testing.T) {
	dir := folder(t)
	config := processConfig{Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Drain: proxytest.Patience}
	v1, v2, port, empty := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), enginetest.FreePort(t), proxytest.RouteTo("empty", enginetest.FreePort(t))
	empty.Hold = proxytest.Patience
	truth(t, config.Truth, proxytest.RouteTo("mail", port, v1), empty)
	first := startProcess(t, config)
	c := clientOf(config.Control)
	old, waiting := proxytest.Dial(t, port), proxytest.Dial(t, empty.Key.Port)
	old.Greeting()
	wait.Until(t, "it waits", func() bool { return held(t, c, "empty") == 1 })
	startProcess(t, config).kill()
	if err := waiting.AwaitEnd(); err == nil {
		t.Error("who waited still waits")
	}
	if pid, err := FindRunning(config.Control); err != nil || pid != first.worker {
		t.Errorf("%d lives, %v, want %d", pid, err, first.worker)
	}
	old.Echo()

	third := startProcess(t, config)
	wait.Until(t, "the first one is back", func() bool { return predecessorsOf(t, c)[first.worker] == 1 })
	old.Echo()
	cutting := proxytest.RouteTo("mail", port, v2)
	cutting.CutOld = time.Nanosecond
	truth(t, config.Truth, cutting)
	third.signal(syscall.SIGHUP)
	if err := old.AwaitEnd(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the old connection ended with %v, want a reset", err)
	}
	first.await()
}

// A table that is refused, whole or in part, changes nothing for those who wait in a daemon that was taken over from.
func TestPredecessorFollowsWhatIsInForce(t *testing.T) {
	dir := folder(t)
	config := processConfig{Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Drain: proxytest.Patience}
	v1 := enginetest.NewServer(t, "v1")
	mail := proxytest.RouteTo("mail", enginetest.FreePort(t))
	mail.Hold = proxytest.Patience
	truth(t, config.Truth, mail)
	startProcess(t, config)
	c := clientOf(config.Control)
	waiting := proxytest.Dial(t, mail.Key.Port)
	wait.Until(t, "it waits", func() bool { return held(t, c, "mail") == 1 })
	second := startProcess(t, config)

	overlapping := proxytest.RouteTo("chat", mail.Key.Port)
	again := func(routes ...deploy.Route) {
		truth(t, config.Truth, routes...)
		second.signal(syscall.SIGHUP)
		<-second.ready
	}
	again(overlapping, mail)
	again(proxytest.RouteTo("taken", v1.Addr.Port(), v1), mail)
	mail.Servers = proxytest.RouteTo("mail", mail.Key.Port, v1).Servers
	again(mail)
	waiting.Greeting()
}

// When the last daemon ends, so do those that it took over from.
func TestEndEndsPredecessors(t *testing.T) {
	dir := folder(t)
	config := processConfig{Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Drain: time.Millisecond}
	port := enginetest.FreePort(t)
	truth(t, config.Truth, proxytest.RouteTo("mail", port, enginetest.NewServer(t, "v1")))
	first := startProcess(t, config)
	old := proxytest.Dial(t, port)
	old.Greeting()
	second := startProcess(t, config)
	old.Echo()
	second.signal(syscall.SIGTERM)
	second.await()
	if err := old.AwaitEnd(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v, want a reset", err)
	}
	first.await()
	if pid, err := FindRunning(config.Control); err != nil || pid != 0 {
		t.Errorf("%d lives, %v", pid, err)
	}
}

// One that does not answer in time is not forgotten.
func TestSlowPredecessorComesBack(t *testing.T) {
	dir := folder(t)
	config := processConfig{Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Drain: proxytest.Patience}
	port := enginetest.FreePort(t)
	truth(t, config.Truth, proxytest.RouteTo("mail", port, enginetest.NewServer(t, "v1")))
	first := startProcess(t, config)
	old := proxytest.Dial(t, port)
	old.Greeting()
	startProcess(t, config)
	c := clientOf(config.Control)
	first.signal(syscall.SIGSTOP)
	wait.Until(t, "it is stopped", func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", first.worker))
		return err == nil && strings.Contains(string(text), "State:\tT")
	})
	if all := predecessorsOf(t, c); len(all) != 0 {
		t.Errorf("got %v of one that does not run", all)
	}
	first.signal(syscall.SIGCONT)
	wait.Until(t, "it is back", func() bool { return predecessorsOf(t, c)[first.worker] == 1 })
	old.Echo()
}
