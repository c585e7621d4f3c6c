package hooks_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dokku-expose/internal/load"
	"dokku-expose/internal/rig"
	"dokku-expose/internal/testcert"
)

// Two apps share a port by the names that clients ask for, and neither can take the other's.
func TestServerNames(t *testing.T) {
	forEachEngine(t, func(t *testing.T, engine func(*rig.Options)) {
		h := start(t, engine)
		public, other, added := h.port(), h.port(), h.port()
		const year = 365 * 24 * time.Hour
		mail, news := testcert.New(t, year, "mail.example.com"), testcert.New(t, year, "*.example.com", "news.example.com")
		ask := func(cert testcert.Certificate, name string) testcert.Certificate {
			cert.Client = cert.Client.Clone()
			cert.Client.ServerName = name
			return cert
		}
		line := func(port uint16, host string) string { return lead(port, private) + " tls=terminate host=" + host }
		for app, cert := range map[string]testcert.Certificate{"mail": mail, "news": news} {
			h.must(h.CreateApp(app))
			h.must(h.AddCertificate(app, cert.Chain, cert.Key))
		}
		h.wants(h.push("mail", source("m1", line(public, "Mail.example.com"))), fmt.Sprintf("%d@mail.example.com -> web.1", public))
		h.push("news", source("n1", line(public, "news.example.com,*.example.com")))
		first := h.answersTLS(public, ask(mail, "mail.example.com"), "m1")
		h.answersTLS(public, ask(news, "news.example.com"), "n1")
		h.answersTLS(public, ask(news, "any.example.com"), "n1")
		if _, err := h.greetedTLS(public, ask(news, "a.b.example.com")); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("a name that nobody has hears %v", err)
		}
		h.expose(0, "check")
		h.wants(h.expose(0, "list").Stdout, fmt.Sprintf("%d@mail.example.com", public), fmt.Sprintf("%d@*.example.com,news.example.com", public),
			fmt.Sprintf("TLS of public port %d@mail.example.com of mail: clients by TLSv1.3: 1, certificate until ", public),
			fmt.Sprintf("TLS of public port %d@*.example.com,news.example.com of news: clients by TLSv1.3: 2, certificate until ", public))

		h.run("deploys cost neither of the two anything", func() {
			one := h.loadAt(load.Config{Addr: loopback(public), Openers: 4, Holders: 6, TLS: ask(mail, "mail.example.com").Client})
			two := h.loadAt(load.Config{Addr: loopback(public), Openers: 4, Holders: 6, TLS: ask(news, "news.example.com").Client})
			h.push("mail", source("m2", line(public, "mail.example.com")), switched(one, "m2"))
			h.must(first.echo())
			h.push("news", source("n2", line(public, "news.example.com,*.example.com")), switched(two, "n2"))
			h.judge(one)
			h.judge(two)
		})
		h.run("nobody takes a name or the port from them", func() {
			h.wants(h.refused("pre-build", "thief", source("v1", line(public, "mail.example.com"))), "belongs to the app mail already")
			h.wants(h.refused("pre-build", "thief", source("v1", lead(public, private))), "to share a port, both need tls=terminate or tls=passthrough")
			h.wants(h.refused("pre-build", "thief", source("v1", line(other, "mail.example.com"))), "mail.example.com is a name of the app mail", "expose:set thief allowed-hosts mail.example.com")
			h.must(os.WriteFile(filepath.Join(h.Root, "mail", "VHOST"), []byte("www.example.org\n"), 0o644))
			h.wants(h.refused("pre-build", "thief", source("v1", line(other, "www.example.org"))), "www.example.org is a domain of the app mail")
			h.expose(0, "set", "thief", "allowed-hosts", "www.example.org")
			h.push("thief", source("t1", lead(other, private)+" tls=passthrough host=www.example.org"))
			h.expose(0, "set", "--global", "allowed-hosts", "*.example.com")
			h.wants(h.refused("pre-build", "thief", source("v1", line(other, "example.net"))), "(setting allowed-hosts)", "expose:set thief allowed-hosts example.net,www.example.org")
		})
		h.run("an operator gives names, and takes them back", func() {
			h.expose(0, "set", "--global", "allowed-hosts")
			h.expose(0, "add", "mail", lead(added, private), "tls=terminate", "host=a.example.org")
			h.expose(0, "add", "mail", lead(added, private), "tls=passthrough", "host=b.example.org,c.example.org")
			h.wants(h.expose(1, "check").Stderr, fmt.Sprintf("public port %d@a.example.org: its certificate is not for a.example.org but for mail.example.com", added))
			insecure := testcert.Certificate{Client: &tls.Config{ServerName: "a.example.org", InsecureSkipVerify: true}}
			h.answersTLS(added, insecure, "m2")
			h.expose(1, "remove", "mail", fmt.Sprintf("%d@b.example.org", added))
			h.wants(h.expose(0, "remove", "mail", fmt.Sprintf("%d@b.example.org,c.example.org", added)).Stdout, fmt.Sprintf("%d@b.example.org, %d@c.example.org", added, added))
			h.answersTLS(added, insecure, "m2")
			h.expose(0, "remove", "mail", fmt.Sprint(added))
			h.closed(added)
		})
		h.run("what one of them gives up the other one keeps", func() {
			h.must(h.Destroy("mail"))
			if _, err := h.greetedTLS(public, ask(mail, "mail.example.com")); err == nil {
				t.Error("a name of an app that is gone is answered")
			}
			h.answersTLS(public, ask(news, "mail.example.com"), "n2")
			h.must(h.Destroy("news"))
			h.closed(public)
		})
	})
}
