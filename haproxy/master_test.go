package haproxy_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
)

// HAProxy 3.3 and newer end a worker after 50 reloads unless the configuration says otherwise.
func TestOldWorkersOutliveManyReloads(t *testing.T) {
	h := haproxytest.Start(t)
	if text := file(t, h); !strings.Contains(text, "\n    mworker-max-reloads 2147483647\n") {
		t.Errorf("the configuration leaves the number of reloads that a worker survives to HAProxy:\n%s", text)
	}
}

// `show proc` ends after one buffer, in the middle of the old workers. Connections on the workers that it leaves out are counted and
// cut like all others.
func TestMoreOldWorkersThanTheMasterLists(t *testing.T) {
	const old, listed = 4, 2
	h := haproxytest.Start(t)
	throughMaster(t, h, func(line, answer string) string {
		if !strings.HasPrefix(line, "show proc") {
			return answer
		}
		// The header, the master, "# workers", the current worker, "# old workers".
		lines := strings.SplitAfter(answer, "\n")
		return strings.Join(lines[:min(len(lines), 5+listed)], "")
	})
	mail := route("mail", port(t), enginetest.NewServer(t, "v1"))
	apply(t, h, mail)
	var conns []net.Conn
	for range old {
		conn, _ := connect(t, mail.Key)
		conns = append(conns, conn)
		// Another port each time, so that each is a reload.
		apply(t, h, mail, route("more", port(t)))
	}
	if got := len(status(t, h).OldWorkers); got != old {
		t.Errorf("%d old workers are known, want %d", got, old)
	}
	connections := 0
	for _, w := range traffic(t, h).Old {
		connections += w.Connections
	}
	if connections != old {
		t.Errorf("old workers are known to have %d connections, want %d", connections, old)
	}
	mail.Servers = nil
	apply(t, h, mail)
	ended := make(chan error)
	for _, conn := range conns {
		go func() {
			_, err := io.ReadAll(conn)
			ended <- err
		}()
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	counted := 0
	for n := 0; n < old; {
		select {
		case err := <-ended:
			if os.IsTimeout(err) {
				t.Fatalf("%d of %d connections on old workers were cut", n, old)
			}
			n++
		case <-tick.C:
			cut, err := h.Engine.CutOld(t.Context(), map[string]time.Duration{"mail": time.Second, "news": 0})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cut {
				counted += c.Connections
			}
		}
	}
	if counted != old {
		t.Errorf("%d connections are counted as cut, want %d", counted, old)
	}
}

// A reload may take as long as the new worker may: HAProxy 2.8 and newer answer when it is done.
func TestReloadThatAnswersLate(t *testing.T) {
	t.Parallel()
	h := haproxytest.Start(t)
	throughMaster(t, h, func(line, answer string) string {
		if strings.HasPrefix(line, "reload") {
			select {
			case <-time.After(haproxy.AskTimeout + time.Second):
			case <-t.Context().Done():
			}
		}
		return answer
	})
	v1 := enginetest.NewServer(t, "v1")
	mail, news := route("mail", port(t), v1), route("news", port(t), v1)
	apply(t, h, mail)
	if applied := apply(t, h, mail, news); applied.Reload == "" {
		t.Error("a new port took no reload")
	}
	answers(t, news.Key, "v1")
	if s := status(t, h).Stale; s != "" {
		t.Errorf("the file is not what runs: %s", s)
	}
}

// In a reload the master starts anew, and does not listen for a moment. That is nothing to tell anybody, and fails no deploy.
func TestMasterThatStartsAnew(t *testing.T) {
	h := haproxytest.Start(t)
	mail := route("mail", port(t), enginetest.NewServer(t, "v1"))
	apply(t, h, mail)
	absent := func() {
		master := h.Config.MasterSocket
		away := master + ".away"
		if err := os.Rename(master, away); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(100*time.Millisecond, func() {
			if err := os.Rename(away, master); err != nil {
				t.Error(err)
			}
		})
	}
	absent()
	if o, err := h.Engine.Observe(t.Context(), deploy.Health, deploy.Counters); err != nil || len(o.Wrong) > 0 {
		t.Errorf("%v, %v", o.Wrong, err)
	}
	absent()
	apply(t, h, mail, route("news", port(t), enginetest.NewServer(t, "news")))
}

// One that starts anew in the midst of a question closes the connection.
func TestMasterThatLeavesAQuestionUnanswered(t *testing.T) {
	h := haproxytest.Start(t)
	mail := route("mail", port(t), enginetest.NewServer(t, "v1"))
	apply(t, h, mail)
	var unanswered atomic.Int32
	throughMaster(t, h, func(line, answer string) string {
		if strings.HasPrefix(line, "show proc") && unanswered.Add(1) == 1 {
			return ""
		}
		return answer
	})
	if o, err := h.Engine.Observe(t.Context(), deploy.Health, deploy.Counters); err != nil || len(o.Wrong) > 0 || unanswered.Load() < 2 {
		t.Errorf("%v, %v after %d questions", o.Wrong, err, unanswered.Load())
	}
}

// A master that starts anew does not listen for a moment: old workers, which are asked through it, are asked again.
func TestMasterThatDoesNotListenForAMoment(t *testing.T) {
	h := haproxytest.Start(t)
	var away atomic.Bool
	var back sync.WaitGroup
	throughMaster(t, h, func(line, answer string) string {
		if strings.HasPrefix(line, "show proc") && !away.Swap(true) {
			socket, aside := h.Config.MasterSocket, h.Config.MasterSocket+".aside"
			if err := os.Rename(socket, aside); err != nil {
				t.Error(err)
			}
			back.Add(1)
			// As long as a master takes.
			time.AfterFunc(50*time.Millisecond, func() {
				defer back.Done()
				if err := os.Rename(aside, socket); err != nil {
					t.Error(err)
				}
			})
		}
		return answer
	})
	t.Cleanup(back.Wait)
	away.Store(true)
	mail := route("mail", port(t), enginetest.NewServer(t, "v1"))
	apply(t, h, mail)
	connect(t, mail.Key)
	apply(t, h, mail, route("more", port(t)))
	away.Store(false)
	o, err := h.Engine.Observe(t.Context(), deploy.Counters)
	if err != nil || len(o.Old) != 1 || o.Old[0].Connections != 1 {
		t.Errorf("old workers are %+v, %v, want one with a connection", o.Old, err)
	}
}

// throughMaster has the engine reach HAProxy's master through a socket whose answers change makes of the master's.
func throughMaster(t *testing.T, h *haproxytest.HAProxy, change func(line, answer string) string) {
	t.Helper()
	master := h.Config.MasterSocket
	h.Config.MasterSocket = filepath.Join(filepath.Dir(master), "through.sock")
	h.Engine = haproxy.New(h.Config)
	ln, err := net.Listen("unix", h.Config.MasterSocket)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer client.Close()
				server, err := net.Dial("unix", master)
				if err != nil {
					return // The master starts anew.
				}
				defer server.Close()
				line := make([]byte, 4096)
				n, err := client.Read(line)
				if err != nil {
					return
				}
				if _, err := server.Write(line[:n]); err != nil {
					return
				}
				answer, _ := io.ReadAll(server) // A reload ends the connection.
				_, _ = io.WriteString(client, change(string(line[:n]), string(answer)))
			})
		}
	})
}
