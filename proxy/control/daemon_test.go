package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/internal/wait"
	"dokku-expose/proxy/proxytest"
)

// connected are the clients that a server has, as it says of itself.
func connected(t testing.TB, c *Client) int {
	t.Helper()
	status := proxytest.Observe(t, c)
	return status.Connections()
}

func TestReplacementsUnderLoad(t *testing.T) {
	const replacements, openers, holders = 20, 8, 30
	dir := folder(t)
	config := processConfig{Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Drain: proxytest.Patience}
	v1, port := enginetest.NewServer(t, "v1"), enginetest.FreePort(t)
	truth(t, config.Truth, proxytest.RouteTo("mail", port, v1), proxytest.RouteTo("news", enginetest.FreePort(t), v1))

	all := []*process{startProcess(t, config)}
	l := startLoad(t, port, openers, holders)
	c := clientOf(config.Control)
	for range replacements {
		await(t, l, openers)
		all = append(all, startProcess(t, config))
	}
	await(t, l, openers)
	status := proxytest.Observe(t, c)
	if status.Processes[0] != all[replacements].worker {
		t.Errorf("pid %d answers, want that of the last one, %d", status.Processes[0], all[replacements].worker)
	}
	// The held connections are the first one's still.
	if !slices.ContainsFunc(status.Old, func(p deploy.Process) bool { return p.PID == all[0].worker && p.Connections > 0 }) {
		t.Errorf("the predecessors are %+v, want the first one with the connections that are held", status.Old)
	}
	judge(t, l, holders)
	for _, p := range all[:replacements] {
		p.await()
	}
	wait.Until(t, "nobody is there any more but the last", func() bool {
		return len(proxytest.Observe(t, c).Old) == 0
	})
}

// A program that knows a newer protocol takes over as any other does. The old daemon can't follow its tables, and says so.
func TestNewerProtocolTakesOver(t *testing.T) {
	const openers, holders = 4, 10
	dir := folder(t)
	config := processConfig{Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Drain: proxytest.Patience}
	port := enginetest.FreePort(t)
	truth(t, config.Truth, proxytest.RouteTo("mail", port, enginetest.NewServer(t, "v1")))
	old := startProcess(t, config)
	l := startLoad(t, port, openers, holders)
	await(t, l, openers)
	config.Newer = true
	newer := startProcess(t, config)
	await(t, l, openers)
	if n := predecessorsOf(t, clientOf(config.Control))[old.worker]; n == 0 {
		t.Error("the old daemon is forgotten, which has connections still")
	}
	judge(t, l, holders)
	if pid := proxytest.Observe(t, clientOf(config.Control)).Processes[0]; pid != newer.worker {
		t.Errorf("pid %d answers, want %d", pid, newer.worker)
	}
}

// A plain restart of a master is one: its worker goes on until the next master's takes over.
func TestMasterRestarts(t *testing.T) {
	const restarts, holders = 5, 10
	dir := folder(t)
	config := processConfig{
		Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Drain: proxytest.Patience, Linger: proxytest.Patience, Supervised: true,
	}
	port := enginetest.FreePort(t)
	truth(t, config.Truth, proxytest.RouteTo("mail", port, enginetest.NewServer(t, "v1")))
	p := startProcess(t, config)
	l := startLoad(t, port, 4, holders)
	for i := range restarts {
		await(t, l, 8)
		// A service manager waits for the end before it starts the next; a crash is the same to it.
		if i%2 == 0 {
			p.signal(syscall.SIGTERM)
			p.await()
		} else {
			p.signal(syscall.SIGKILL)
			<-p.ended
		}
		await(t, l, 8)
		p = startProcess(t, config)
	}
	await(t, l, 8)

	// SIGHUP comes through to the worker.
	v2 := enginetest.NewServer(t, "v2")
	truth(t, config.Truth, proxytest.RouteTo("mail", port, v2))
	p.signal(syscall.SIGHUP)
	p.awaitReady()
	l.Mark("v2")
	await(t, l, 8)
	judge(t, l, holders)
}

func TestOrphanEnds(t *testing.T) {
	dir := folder(t)
	config := processConfig{Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth"), Supervised: true}
	port := enginetest.FreePort(t)
	truth(t, config.Truth, proxytest.RouteTo("mail", port, enginetest.NewServer(t, "v1")))
	p := startProcess(t, config)
	p.signal(syscall.SIGTERM)
	p.await()
	wait.Until(t, "nobody listens", func() bool {
		_, err := os.Stat(config.Control)
		return errors.Is(err, fs.ErrNotExist) && syscall.Kill(p.worker, 0) != nil
	})
}

func TestWorkerThatDiesEndsItsMaster(t *testing.T) {
	p := startProcess(t, processConfig{Control: controlPath(t), Supervised: true})
	if err := syscall.Kill(p.worker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-p.ended; err == nil {
		t.Error("the master ended well: a service manager would not start it again")
	}
}

// A daemon that is killed comes back with what is true, and no hook is needed for that.
func TestKilledAndRestarted(t *testing.T) {
	dir := folder(t)
	config := processConfig{Control: filepath.Join(dir, "control.sock"), Truth: filepath.Join(dir, "truth")}
	v1, v2, port := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), enginetest.FreePort(t)
	truth(t, config.Truth, proxytest.RouteTo("mail", port, v1))
	c := clientOf(config.Control)
	p := startProcess(t, config)
	for range 3 {
		held := proxytest.Dial(t, port)
		held.Greeting()
		want := proxytest.Observe(t, c).Serving()
		p.signal(syscall.SIGKILL)
		<-p.ended
		_ = held.AwaitEnd()
		if _, err := c.Apply(t.Context(), deploy.Table{}); !errors.Is(err, deploy.ErrNotRunning) || !strings.Contains(err.Error(), clientOf("").config.Start) {
			t.Errorf("apply without a daemon: %v", err)
		}
		if o := proxytest.Observe(t, c); o.Running || len(o.Routes) != 0 {
			t.Errorf("without a daemon it serves %v", o)
		}
		p = startProcess(t, config)
		if got := proxytest.Observe(t, c).Serving(); len(got) != 1 || len(want) != 1 {
			t.Errorf("serving %v, want %v", got, want)
		}
		if got := proxytest.Dial(t, port).Greeting(); got != "v1" {
			t.Errorf("%s answered", got)
		}
	}
	// What is true may have changed meanwhile.
	p.signal(syscall.SIGKILL)
	<-p.ended
	truth(t, config.Truth, proxytest.RouteTo("mail", port, v2))
	startProcess(t, config)
	if got := proxytest.Dial(t, port).Greeting(); got != "v2" {
		t.Errorf("%s answered", got)
	}
}

// Tables that are applied after a handover go for the connections that the old daemon has, too.
func TestPredecessorFollows(t *testing.T) {
	control, port := controlPath(t), enginetest.FreePort(t)
	v1, v2 := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2")
	c := runDaemon(t, Options{Control: control})
	empty := proxytest.RouteTo("empty", enginetest.FreePort(t))
	proxytest.Apply(t, c, empty, proxytest.RouteTo("mail", port, v1))
	old := proxytest.Dial(t, port)
	old.Greeting()
	waiting := proxytest.Dial(t, empty.Key.Port)
	wait.Until(t, "it waits", func() bool { return held(t, c, "empty") == 1 })

	// Two generations, so that a predecessor is handed on.
	for range 2 {
		runDaemon(t, Options{Control: control})
	}
	draining := func() int {
		status := proxytest.Observe(t, c)
		return proxytest.OnOldServers(status, "mail")
	}
	if n := draining(); n != 0 {
		t.Errorf("%d connections drain before any switch", n)
	}
	empty.Servers = proxytest.RouteTo("empty", 1, v2).Servers
	proxytest.Apply(t, c, empty, proxytest.RouteTo("mail", port, v2))
	if got := waiting.Greeting(); got != "v2" {
		t.Errorf("%s answered who waited at the old daemon", got)
	}
	if n := draining(); n != 1 {
		t.Errorf("%d connections drain, want 1", n)
	}
	old.Echo()
	cutting := proxytest.RouteTo("mail", port, v2)
	cutting.CutOld = time.Nanosecond
	proxytest.Apply(t, c, empty, cutting)
	if err := old.AwaitEnd(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the old connection ended with %v, want a reset", err)
	}
	waiting.Conn.Close()
	wait.Until(t, "the old ones have gone", func() bool { return connected(t, c) == 0 })
}

func held(t testing.TB, c *Client, app string) (n int) {
	t.Helper()
	status := proxytest.Observe(t, c)
	for _, r := range status.Routes {
		if r.App == app {
			n += r.Held
		}
	}
	return n
}

// A successor that dies in the middle of taking over leaves the old daemon as it was.
func TestSuccessorThatFails(t *testing.T) {
	control, port := controlPath(t), enginetest.FreePort(t)
	c := runDaemon(t, Options{Control: control})
	proxytest.Apply(t, c, proxytest.RouteTo("mail", port, enginetest.NewServer(t, "v1")))
	for _, words := range []string{"", `{"protocol":1,"call":"status"}` + "\n", "gibberish\n"} {
		conn, err := net.Dial("unix", control)
		if err != nil {
			t.Fatal(err)
		}
		answer, files, err := wire{conn.(*net.UnixConn), ours()}.exchange(request{Call: callHandover})
		if err != nil || answer.Handover == nil || len(files) != 2 {
			t.Fatalf("got %+v with %d files, %v", answer, len(files), err)
		}
		closeFiles(files)
		if _, err := conn.Write([]byte(words)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		v2 := enginetest.NewServer(t, "v2")
		proxytest.Apply(t, c, proxytest.RouteTo("mail", port, v2))
		if got := proxytest.Dial(t, port).Greeting(); got != "v2" {
			t.Errorf("%s answered", got)
		}
	}
}

// Out of files, the daemon neither dies nor disturbs who is connected, and serves again when there are files.
func TestOutOfFiles(t *testing.T) {
	const files, n = 64, 60
	control, port := controlPath(t), enginetest.FreePort(t)
	p := startProcess(t, processConfig{Control: control})
	r := proxytest.RouteTo("mail", port, enginetest.NewServer(t, "v1"))
	// Who has been accepted can't be connected any more, and shall give the file back soon.
	r.Hold = time.Second
	proxytest.Apply(t, clientOf(control), r)
	var before []*proxytest.Client
	for range 10 {
		c := proxytest.Dial(t, port)
		c.Greeting()
		before = append(before, c)
	}
	// Lowered behind its back: what the daemon allows itself by the limit that it was started with does not protect it.
	limit := &unix.Rlimit{Cur: files, Max: files}
	if err := unix.Prlimit(p.worker, unix.RLIMIT_NOFILE, limit, nil); err != nil {
		t.Fatal(err)
	}
	var crowd []*proxytest.Client
	for range n {
		crowd = append(crowd, proxytest.Dial(t, port))
	}
	wait.Until(t, "files have run out", func() bool {
		links, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.worker))
		return err == nil && len(links) >= files-1
	})
	for _, c := range before {
		c.Echo()
	}
	// Whoever asks again and again for what it can't have uses all of this time.
	const watched = time.Second
	used := cpuTime(t, p.worker)
	<-time.After(watched)
	if used = cpuTime(t, p.worker) - used; used > watched/2 {
		t.Errorf("it used %s of CPU time in %s, with nothing to do", used, watched)
	}
	for _, c := range crowd {
		c.Conn.Close()
	}
	wait.Until(t, "it serves again", func() bool {
		line, err := proxytest.Dial(t, port).Lines.ReadString('\n')
		return err == nil && strings.HasPrefix(line, "v1 ")
	})
	for _, c := range before {
		c.Echo()
	}
}

// cpuTime is what a process has used.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	process, err := procfs.NewProc(pid)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := process.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(stat.CPUTime() * float64(time.Second))
}

func TestControlSocketIsForTheGroup(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	control := controlPath(t)
	runDaemon(t, Options{Control: control})
	info, err := os.Stat(control)
	if err != nil || info.Mode().Perm() != controlMode {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
}

// What a newer hook asks of an older daemon gets a clear answer, and changes nothing.
func TestOlderDaemon(t *testing.T) {
	control := controlPath(t)
	c := runDaemon(t, Options{Control: control})
	for _, row := range []struct{ name, words, want string }{
		{"a newer protocol", `{"protocol":3,"call":"apply","tables":[]}`, "it speaks version 2 of the control protocol, not 3"},
		{"an unknown field", `{"protocol":1,"call":"apply","table":{"Routes":[{"App":"mail","Weight":1}]}}`, `unknown field "Weight"`},
		{"an unknown call", `{"protocol":1,"call":"dance"}`, `it knows no call "dance"`},
		{"no protocol", `{}`, "no protocol version"},
		{"no JSON", "help", "not a request"},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn, err := net.Dial("unix", control)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte(row.words + "\n")); err != nil {
				t.Fatal(err)
			}
			line, _, err := wire{conn.(*net.UnixConn), ours()}.receive()
			if err != nil || !strings.Contains(string(line), strings.ReplaceAll(row.want, `"`, `\"`)) {
				t.Errorf("got %s, %v, want %q", line, err, row.want)
			}
		})
	}
	if _, err := c.call(t.Context(), request{Call: "dance"}); err == nil || !strings.Contains(err.Error(), clientOf("").config.Restart) {
		t.Errorf("the client says %v, want how to restart the daemon", err)
	}
}

func TestReconcileThatFailsEndsTheDaemon(t *testing.T) {
	mine := errors.New("mine")
	err := Run(t.Context(), Options{
		Control: controlPath(t), Log: slog.New(slog.DiscardHandler),
		Reconcile: func(context.Context, *Local) error { return mine },
	})
	if !errors.Is(err, mine) {
		t.Errorf("got %v, want %v", err, mine)
	}
}
