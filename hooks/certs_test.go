package hooks_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dokku-expose/internal/load"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/testcert"
	"dokku-expose/internal/wait"
)

// greetedTLS connects as a client that trusts this certificate only, and returns its connection and the version that answers.
func (h *host) greetedTLS(port uint16, cert testcert.Certificate) (*conn, error) {
	raw, err := net.Dial("tcp", loopback(port).String())
	if err != nil {
		return nil, err
	}
	h.t.Cleanup(func() { _ = raw.Close() })
	if err := raw.SetDeadline(time.Now().Add(wait.Patience)); err != nil {
		return nil, err
	}
	secure := tls.Client(raw, cert.Client)
	lines := bufio.NewReader(secure)
	greeting, err := lines.ReadString('\n')
	if err != nil {
		return nil, err
	}
	version, _, _ := strings.Cut(greeting, " ")
	return &conn{Conn: secure, lines: lines, version: version}, nil
}

// answersTLS wants that version for clients that trust this certificate only.
func (h *host) answersTLS(port uint16, cert testcert.Certificate, version string) *conn {
	h.t.Helper()
	c, err := h.greetedTLS(port, cert)
	h.must(err)
	if c.version != version {
		h.t.Errorf("%s answers, want %s", c.version, version)
	}
	return c
}

func TestCertificates(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public, plain := h.port(), h.port()
		v1 := source("v1", lead(public, private)+" tls=terminate", lead(plain, private))
		const year = 365 * 24 * time.Hour
		first, second, old := testcert.New(t, year, "mail.example.com"), testcert.New(t, 10*24*time.Hour, "mail.example.com"), testcert.New(t, -time.Minute, "mail.example.com")
		var output strings.Builder
		add := func(cert testcert.Certificate) string {
			h.t.Helper()
			output.Reset()
			h.must(h.AddCertificate("mail", cert.Chain, cert.Key, rig.After(func(_ rig.Call, r rig.Result) { output.WriteString(r.Stdout + r.Stderr) })))
			return output.String()
		}

		// letsencrypt wants an app that is deployed.
		lacks := fmt.Sprintf("mail: public port %d: it has no certificate for TLS", public)
		h.wants(h.push("mail", v1), lacks, "dokku certs:add mail", "letsencrypt:enable mail")
		h.closed(public)
		h.answers(plain, "v1")
		h.wants(h.expose(1, "check").Stderr, lacks)

		h.wants(add(first), fmt.Sprint(public), "web.1")
		c := h.answersTLS(public, first, "v1")
		h.answers(plain, "v1")
		h.expose(0, "check")
		shown := h.awaitPage("")
		metric := func(name string) float64 {
			h.t.Helper()
			_, metrics := h.page(shown, shown.Password, "/metrics")
			_, value, _ := strings.Cut(metrics, fmt.Sprintf("dokku_expose_%s{app=\"mail\",port=\"%d\",process=\"web\"} ", name, public))
			number, err := strconv.ParseFloat(strings.Fields(value + " none")[0], 64)
			h.must(err)
			return number
		}
		if end := time.Unix(int64(metric("certificate_not_after_seconds")), 0); time.Until(end) < year-time.Hour {
			t.Errorf("its certificate ends on %s", end)
		}
		about := fmt.Sprintf("TLS of public port %d of mail: clients by TLSv1.3: 1, certificate until ", public)
		h.wants(h.expose(0, "stats", "mail").Stdout, about)
		listed := h.expose(0, "list", "mail").Stdout
		h.wants(listed, about)
		if n := strings.Count(listed, "TLS of"); n != 1 {
			t.Errorf("expose:list says %d times something of TLS, want once:\n%s", n, listed)
		}
		h.wants(h.expose(0, "list", "mail", "--format", "json").Stdout, "\"tls\": {\n      \"versions\": {\n        \"TLSv1.3\": 1\n      },\n      \"handshakes_failed\": 0,\n      \"certificate_ends\": \"2")
		_, metrics := h.page(shown, shown.Password, "/metrics")
		h.wants(metrics, fmt.Sprintf("dokku_expose_tls_connections_total{app=\"mail\",port=\"%d\",process=\"web\",version=\"TLSv1.3\"} 1", public))
		path := map[string]string{"haproxy": "/containers", "builtin": "/"}[filepath.Base(t.Name())]
		_, page := h.page(shown, shown.Password, path)
		h.wants(page, "TLS: clients by TLSv1.3: 1")
		plainly, err := net.Dial("tcp", loopback(public).String())
		h.must(err)
		_, err = plainly.Write([]byte("EHLO mail.example.com\r\n"))
		h.must(errors.Join(err, plainly.Close()))
		await(t, "the client without TLS counts", func() bool { return metric("tls_handshake_failures_total") > 0 })
		h.wants(h.expose(0, "list", "mail").Stdout, "clients by TLSv1.3: 1, failed handshakes: 1, ")

		h.run("another one is in force at once, and a deploy costs nobody anything", func() {
			l := h.loadAt(load.Config{Addr: loopback(public), Openers: 4, Holders: 12, TLS: testcert.Clients(first, second)})
			h.seen(l, 20)
			l.Phase("another certificate")
			add(second)
			h.answersTLS(public, second, "v1")
			h.must(c.echo())
			h.wants(h.expose(1, "check").Stderr, fmt.Sprintf("mail: public port %d: its certificate ends", public), "in 9 days")
			l.Phase("a deploy")
			h.push("mail", source("v2", lead(public, private)+" tls=terminate", lead(plain, private)), switched(l, "v2"))
			h.must(c.echo())
			h.judge(l)
		})
		// The container of the first one ends some time after the deploy.
		c = h.answersTLS(public, second, "v2")
		h.run("one that is of no use is told of, and changes nothing", func() {
			h.wants(add(testcert.Certificate{Chain: first.Chain, Key: second.Key}), "its certificate can't be used", "private key does not match")
			h.answersTLS(public, second, "v2")
			h.wants(h.expose(1, "check").Stderr, "its certificate can't be used")
		})
		h.run("one that has ended is shown, and told of", func() {
			add(old)
			if _, err := h.greetedTLS(public, old); err == nil || !strings.Contains(err.Error(), "expired") {
				t.Errorf("a client says %v", err)
			}
			h.wants(h.expose(1, "check").Stderr, "its certificate has ended on")
		})
		h.run("without one the port closes", func() {
			h.must(h.RemoveCertificate("mail"))
			h.closed(public)
			h.answers(plain, "v2")
			h.must(c.echo())
			h.wants(h.expose(1, "check").Stderr, lacks)
		})
		h.run("an operator names another app, whose certificate it is", func() {
			h.must(h.CreateApp("web"))
			other := testcert.New(t, year, "mail.example.com")
			h.expose(0, "set", "mail", "cert", "web")
			h.closed(public)
			var told strings.Builder
			h.must(h.AddCertificate("web", other.Chain, other.Key, rig.After(func(_ rig.Call, r rig.Result) { told.WriteString(r.Stdout) })))
			h.wants(told.String(), "Public ports of mail")
			h.answersTLS(public, other, "v2")
			add(first)
			h.answersTLS(public, other, "v2")
			h.expose(0, "check")
			h.expose(0, "set", "mail", "cert")
			h.answersTLS(public, first, "v2")
		})
		h.run("clients need a certificate", func() {
			client := testcert.New(t, year, "alice")
			pair, err := tls.LoadX509KeyPair(client.Chain, client.Key)
			h.must(err)
			h.wants(h.expose(1, "set", "mail", "client-ca", client.Key).Stderr, "private key", "certificates only")
			h.wants(h.expose(1, "set", "mail", "client-ca", client.Chain+".none").Stderr, "no such file", "stdin")
			before := h.answersTLS(public, first, "v2")
			h.expose(0, "set", "mail", "client-ca", client.Chain)
			h.wants(h.expose(0, "report", "mail", "--expose-computed-client-ca").Stdout, "CN=alice until ")
			if c, err := h.greetedTLS(public, first); err == nil {
				t.Errorf("a client without one gets to %s", c.version)
			}
			known := first
			known.Client = first.Client.Clone()
			known.Client.Certificates = []tls.Certificate{pair}
			h.answersTLS(public, known, "v2")
			h.must(before.echo())
			// An open port that asks for none stays open, and a push gets no such port.
			h.answers(plain, "v2")
			told := h.expose(1, "check").Stderr
			h.wants(told, fmt.Sprintf("mail: public port %d: PORTS line 2: clients need a certificate (setting client-ca), and %d asks for none", plain, plain), "add tls=terminate")
			if n := strings.Count(told, fmt.Sprintf("public port %d", plain)); n != 1 {
				t.Errorf("expose:check tells of the port %d times, want once:\n%s", n, told)
			}
			h.wants(h.refused("pre-build", "mail", source("v3", lead(public, private)+" tls=terminate", lead(plain, private))), fmt.Sprintf("public port %d (PORTS line 2)", plain), "setting client-ca")
			h.push("mail", source("v3", lead(public, private)+" tls=terminate"))
			h.answersTLS(public, known, "v3")
			h.expose(0, "check")
			// An operator may open such a port, of which expose:check tells all the same.
			own := h.port()
			h.expose(0, "add", "mail", lead(own, private))
			h.wants(h.expose(1, "check").Stderr, fmt.Sprintf("mail: public port %d: it asks clients for no certificate", own))
			h.expose(0, "remove", "mail", fmt.Sprint(own))
			h.expose(0, "check")
			h.expose(0, "set", "mail", "client-ca")
			h.answersTLS(public, first, "v3")
		})
		h.run("clients of Postgres ask for TLS, which the built-in engine answers", func() {
			// Two pushes: the second one finds the port open, and not with the engine in force.
			for _, v := range []string{"v4", "v5"} {
				h.push("mail", source(v, lead(public, private)+" tls=terminate", lead(plain, private)+" tls=terminate starttls=postgres"))
				h.answersTLS(public, first, v)
				raw, err := net.Dial("tcp", loopback(plain).String())
				h.must(err)
				defer raw.Close()
				h.must(raw.SetDeadline(time.Now().Add(wait.Patience)))
				_, err = raw.Write([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"))
				h.must(err)
				answer := make([]byte, 1)
				if _, err := raw.Read(answer); err != nil || answer[0] != 'S' {
					t.Fatalf("the question is answered with %q, %v", answer, err)
				}
				greeting, err := bufio.NewReader(tls.Client(raw, first.Client)).ReadString('\n')
				if err != nil || !strings.HasPrefix(greeting, v+" ") {
					t.Errorf("it is greeted with %q, %v, want %s", greeting, err, v)
				}
				for _, port := range []uint16{public, plain} {
					_, row, _ := strings.Cut(h.expose(0, "list", "mail").Stdout, fmt.Sprint(port))
					row, _, _ = strings.Cut(row, "\n")
					h.wants(row, "serving")
				}
				h.wants(h.expose(0, "stats", "mail").Stdout, fmt.Sprint(plain))
			}
			h.expose(0, "check")
			if filepath.Base(t.Name()) == "haproxy" {
				// HAProxy starts without that port, and that is no error.
				h.must(h.prepare())
			}
		})
	})
}
