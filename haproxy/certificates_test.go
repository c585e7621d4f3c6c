package haproxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/load"
	"dokku-expose/internal/testcert"
	"dokku-expose/internal/wait"
)

const certified = "mail.example.com"

func newCertificate(t *testing.T) testcert.Certificate { return testcert.New(t, time.Hour, certified) }

// secured is a route of the app mail with TLS by a certificate, by the one that it has without any.
func secured(t *testing.T, listen deploy.Key, s *enginetest.Server, cert ...testcert.Certificate) deploy.Route {
	t.Helper()
	r := withOptions(t, route("mail", listen, s), "tls=terminate")
	for _, c := range cert {
		r.Certificate = deploy.Certificate{Chain: c.Chain, Key: c.Key, ID: c.Chain}
	}
	return r
}

// answersTLS wants a new client that trusts only cert to be answered by name.
func answersTLS(t *testing.T, l deploy.Key, cert testcert.Certificate, name string) {
	t.Helper()
	answersClient(t, l, cert.Client, name)
}

// answersClient is answersTLS for a client's configuration.
func answersClient(t *testing.T, l deploy.Key, client *tls.Config, name string) tls.ConnectionState {
	t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.Port), client)
	if err != nil {
		t.Errorf("port %s: %v", l, err)
		return tls.ConnectionState{}
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if got, _, _ := strings.Cut(line, " "); got != name {
		t.Errorf("port %s: %s answered, %v, want %s", l, got, err, name)
	}
	return conn.ConnectionState()
}

// bundles are the files with certificates beside the configuration.
func bundles(t *testing.T, h *haproxytest.HAProxy) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"tls-*", ".tls-*"} {
		files, err := filepath.Glob(filepath.Join(filepath.Dir(h.Config.ConfigFile), pattern))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, files...)
	}
	return found
}

func bundle(t *testing.T, h *haproxytest.HAProxy) string {
	t.Helper()
	files := bundles(t, h)
	if len(files) != 1 {
		t.Fatalf("bundles: %q, want one", files)
	}
	return files[0]
}

// pemOf is the text of files, one after the other.
func pemOf(t *testing.T, paths ...string) []byte {
	t.Helper()
	var all []byte
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	return all
}

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o640); err != nil {
		t.Fatal(err)
	}
}

// begin begins to replace a certificate in the running worker, as an Apply does.
func begin(t *testing.T, h *haproxytest.HAProxy, file string, text []byte) {
	t.Helper()
	if answer := command(t, h, fmt.Sprintf("set ssl cert %s <<\n%s", file, text)); !strings.Contains(answer, "Transaction created") {
		t.Fatal(answer)
	}
}

// A certificate is in force after the next Apply wherever the last one died, without a reload, and with the chain that belongs to it.
func TestCertificateAfterAnApplyThatDied(t *testing.T) {
	first, second := newCertificate(t), newCertificate(t)
	// The same certificate with something more in its chain.
	longer := second
	longer.Chain = filepath.Join(t.TempDir(), "server.crt")
	writeFile(t, longer.Chain, pemOf(t, second.Chain, first.Chain))
	for _, row := range []struct {
		name     string
		from, to testcert.Certificate
		// The steps that were done: a transaction begun, the file written. other tells that they were another route's.
		began, wrote, other bool
		// unknown tells that the table does not say which certificate it is.
		unknown bool
		chain   int
	}{
		{name: "before the file", from: first, to: second, began: true, chain: 1},
		{name: "between the file and the end", from: first, to: second, began: true, wrote: true, chain: 1},
		{name: "without a transaction", from: first, to: second, wrote: true, chain: 1},
		{name: "another chain, before the file", from: second, to: longer, began: true, chain: 2},
		{name: "another chain, between the file and the end", from: second, to: longer, began: true, wrote: true, chain: 2},
		{name: "an unknown certificate, between the file and the end", from: first, to: second, began: true, wrote: true, unknown: true, chain: 1},
		{name: "another route's, before the file", from: second, to: longer, began: true, other: true, chain: 2},
		{name: "another route's, between the file and the end", from: second, to: longer, began: true, wrote: true, other: true, chain: 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := haproxytest.Start(t)
			v1, listen := enginetest.NewServer(t, "v1"), port(t)
			r, other := secured(t, listen, v1, row.from), secured(t, port(t), v1, row.from)
			other.App = "other"
			apply(t, h, r)
			file := bundle(t, h)
			apply(t, h, r, other)
			worker, text, died := status(t, h).Worker, pemOf(t, row.to.Chain, row.to.Key), file
			if row.other {
				died = slices.DeleteFunc(bundles(t, h), func(path string) bool { return path == file })[0]
			}
			if row.began {
				begin(t, h, died, text)
			}
			if row.wrote {
				writeFile(t, died, text)
			}
			answersTLS(t, listen, row.from, "v1")

			// The first one is replaced in any case.
			r = secured(t, listen, v1, row.to)
			if row.unknown {
				r.Certificate = deploy.Certificate{}
			}
			other.Certificate = r.Certificate
			apply(t, h, r, other)
			for _, l := range []deploy.Key{listen, other.Key} {
				if l == other.Key && row.unknown {
					continue
				}
				if state := answersClient(t, l, row.to.Client, "v1"); len(state.PeerCertificates) != row.chain {
					t.Errorf("port %s: a chain of %d certificates, want %d", l, len(state.PeerCertificates), row.chain)
				}
			}
			if !bytes.Equal(pemOf(t, file), text) {
				t.Error("the file has another certificate")
			}
			if s := status(t, h); s.Worker != worker {
				t.Error("HAProxy was reloaded")
			}
			if list := command(t, h, "show ssl cert"); strings.Contains(list, "*") {
				t.Errorf("a transaction is left: %s", list)
			}
		})
	}
}

// HAProxy shows the newest certificate after a reload or a restart by anybody, without being told of it again. A client that resumes a session
// of the worker before connects all the same.
func TestReloadKeepsTheNewestCertificate(t *testing.T) {
	h := haproxytest.Start(t)
	v1, listen, first, second := enginetest.NewServer(t, "v1"), port(t), newCertificate(t), newCertificate(t)
	apply(t, h, secured(t, listen, v1, first))
	worker := status(t, h).Worker
	if applied := apply(t, h, secured(t, listen, v1, second)); applied.Reload != "" {
		t.Errorf("reload: %s", applied.Reload)
	}
	client := second.Client.Clone()
	client.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	answersClient(t, listen, client, "v1")
	if !answersClient(t, listen, client, "v1").DidResume {
		t.Error("no session is resumed")
	}
	// Of TLS 1.2 the client resumes sessions by tickets only, whose key would open what somebody has recorded.
	old := client.Clone()
	old.MaxVersion, old.ClientSessionCache = tls.VersionTLS12, tls.NewLRUClientSessionCache(0)
	answersClient(t, listen, old, "v1")
	if answersClient(t, listen, old, "v1").DidResume {
		t.Error("a session is resumed by a ticket")
	}
	reload(t, status(t, h).Master)
	wait.Until(t, "another worker serves", func() bool {
		s := status(t, h)
		return s.Running && s.Worker != worker
	})
	answersClient(t, listen, client, "v1")

	h.Stop()
	if err := h.Engine.Prepare(t.Context(), table(secured(t, listen, v1))); err != nil {
		t.Fatal(err)
	}
	h.Start()
	answersTLS(t, listen, second, "v1")
	// Another one comes while HAProxy does not run.
	h.Stop()
	if err := h.Engine.Prepare(t.Context(), table(secured(t, listen, v1, first))); err != nil {
		t.Fatal(err)
	}
	h.Start()
	answersTLS(t, listen, first, "v1")
}

// Certificates replaced under load cost no client anything.
func TestCertificatesReplacedUnderLoad(t *testing.T) {
	h := haproxytest.Start(t)
	v1, listen, certs := enginetest.NewServer(t, "v1"), port(t), []testcert.Certificate{newCertificate(t), newCertificate(t)}
	apply(t, h, secured(t, listen, v1, certs[0]))
	l, err := load.Start(t.Context(), load.Config{
		Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), listen.Port), Openers: 4, Holders: 8, TLS: testcert.Clients(certs...),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		cert := certs[(i+1)%2]
		if applied := apply(t, h, secured(t, listen, v1, cert)); applied.Reload != "" {
			t.Errorf("reload: %s", applied.Reload)
		}
		answersTLS(t, listen, cert, "v1")
		if err := l.Await(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
	}
	if r := l.Stop(); r.Failed() > 0 || r.Held.Broken > 0 || r.Held.Open != 8 {
		t.Error(r.Summary())
	}
}

func TestBundles(t *testing.T) {
	h := haproxytest.Start(t, func(c *haproxy.Config) {
		// HAProxy's command line would end at blanks.
		c.ConfigFile = filepath.Join(filepath.Dir(c.ConfigFile), "with blanks; and more", "haproxy.cfg")
		if err := os.Mkdir(filepath.Dir(c.ConfigFile), 0o750); err != nil {
			t.Fatal(err)
		}
	})
	v1, listen, news := enginetest.NewServer(t, "v1"), port(t), port(t)
	first, second := newCertificate(t), newCertificate(t)
	apply(t, h, secured(t, listen, v1, first))
	stat := func(path string) os.FileInfo {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	before := stat(h.Config.ConfigFile)
	apply(t, h, secured(t, listen, v1, second))
	answersTLS(t, listen, second, "v1")
	if !os.SameFile(before, stat(h.Config.ConfigFile)) {
		t.Error("a new certificate writes the configuration anew")
	}
	file := bundle(t, h)
	if mode := stat(file).Mode().Perm(); mode != 0o640 {
		t.Errorf("%v: others could read the key, or HAProxy's group could not", mode)
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 3 {
		t.Errorf("%v, %v: want the configuration, its data and one bundle", entries, err)
	}
	text, err := h.Engine.ShowConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	saved := strings.TrimSuffix(h.Config.ConfigFile, ".cfg") + ".json"
	if text = append(text, pemOf(t, saved)...); bytes.Contains(text, []byte("PRIVATE")) {
		t.Errorf("a key is shown: %s", text)
	}
	// An Apply that was killed leaves a temporary file, and a key that is of no use.
	writeFile(t, filepath.Join(filepath.Dir(file), ".tls-0.pem123"), pemOf(t, second.Key))
	apply(t, h, secured(t, listen, v1), route("news", news, v1))
	bundle(t, h)
	// Another app at the same port gets nothing of it.
	theirs := secured(t, listen, v1)
	theirs.App = "chat"
	_, err = h.Engine.Apply(t.Context(), table(theirs, route("news", news, v1)))
	wantRouteError(t, err, "chat", listen, deploy.ErrNoCertificate.Error())
	if !errors.Is(err, deploy.ErrNoCertificate) {
		t.Errorf("%v does not wrap ErrNoCertificate", err)
	}
	closed(t, listen)
	if left := bundles(t, h); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	apply(t, h, secured(t, listen, v1, first))
	apply(t, h, route("mail", listen, v1))
	answers(t, listen, "v1")
	if left := bundles(t, h); len(left) != 0 {
		t.Errorf("left behind without TLS: %q", left)
	}
}

// A bundle that somebody has removed is written again, without a reload.
func TestBundleThatIsGone(t *testing.T) {
	h := haproxytest.Start(t)
	v1, listen, cert := enginetest.NewServer(t, "v1"), port(t), newCertificate(t)
	apply(t, h, secured(t, listen, v1, cert))
	file := bundle(t, h)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if applied := apply(t, h, secured(t, listen, v1, cert)); applied.Reload != "" {
		t.Errorf("reload: %s", applied.Reload)
	}
	if bundle(t, h) != file {
		t.Error("another file")
	}
	answersTLS(t, listen, cert, "v1")
}
