package deploy

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"dokku-expose/portsfile"
)

// named are the claims of an app's PORTS.
func named(t *testing.T, app string, lines ...string) []Claim {
	t.Helper()
	entries, err := ParsePorts("PORTS", strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return FileClaims(app, "PORTS", entries)
}

func TestAdmitNames(t *testing.T) {
	const mine = "443:5443 tls=terminate host=mail.example.com"
	news := func(lines ...string) []App {
		return []App{{Name: "news", Operator: named(t, "news", lines...)}}
	}
	names := func(list ...string) portsfile.ServerNames { return portsfile.ServerNamesOf(list...) }
	for _, tt := range []struct {
		name  string
		asked string
		r     Request
		want  string // "" for none
	}{
		{"a name that nobody has", mine, Request{Apps: news("443:1 tls=passthrough host=news.example.com")}, ""},
		{"all that nobody has", "443:5443 tls=passthrough", Request{Apps: news("443:1 tls=terminate host=news.example.com,*.example.com")}, ""},
		{"another app has the rest", mine, Request{Apps: news("443:1 tls=terminate")}, ""},
		{"another app has the name", mine, Request{Apps: news("443:1 tls=passthrough host=mail.example.com")},
			"public port 443@mail.example.com (PORTS line 1) belongs to the app news already (PORTS line 1, public port 443@mail.example.com)"},
		{"another app has the port without TLS", mine, Request{Apps: news("443:1")}, "belongs to the app news already (PORTS line 1, public port 443); use another port, or take it out of PORTS of news and deploy that; " +
			"to share a port, both need tls=terminate or tls=passthrough, and a host of their own"},
		{"a port without TLS that another app has with it", "443:1", Request{Apps: news("443:1 tls=passthrough host=a.example.com")}, "to share a port, both need tls="},
		{"the setting is TLS", mine, Request{Apps: []App{{Name: "news", Operator: named(t, "news", "443:1"), Options: Options{TLS: TerminateTLS}}}}, ""},
		{"the rest twice", "443:1 tls=terminate", Request{Apps: news("443:1 tls=passthrough")}, "public port 443 (PORTS line 1) belongs to the app news already"},
		{"another address", "127.0.0.1:" + mine, Request{Apps: news("443:1 tls=passthrough host=a.example.com")}, "public port 127.0.0.1:443@mail.example.com (PORTS line 1) belongs to the app news"},
		{"other proxies", mine, Request{Apps: news("443:1 tls=passthrough host=a.example.com accept-proxy=10.0.0.1")}, "both need the same accept-proxy"},
		{"the setting names the same proxies", mine, Request{
			Policy: Policy{Options: options(t, "accept-proxy=10.0.0.1")}, Apps: news("443:1 tls=passthrough host=a.example.com accept-proxy=10.0.0.1"),
		}, ""},
		{"a name on another port", mine, Request{Apps: news("8443:1 tls=passthrough host=mail.example.com")},
			"mail.example.com is a name of the app news (PORTS line 1, public port 8443@mail.example.com); use another name, or have an operator allow it: dokku expose:set mail allowed-hosts mail.example.com"},
		{"a domain of another app", mine, Request{Domains: map[string][]string{"news": {"www.example.com", "mail.example.com"}}}, "mail.example.com is a domain of the app news (dokku domains:report news)"},
		{"a name below a domain of another app", mine, Request{Domains: map[string][]string{"news": {"*.example.com"}}}, "*.example.com is a domain of the app news"},
		{"names above a domain of another app", "443:1 tls=terminate host=*.example.com", Request{Domains: map[string][]string{"news": {"www.example.com"}}}, "www.example.com is a domain of the app news"},
		{"names above a name of another app", "444:1 tls=terminate host=*.example.com", Request{Apps: news("443:1 tls=passthrough host=a.example.com")}, "a.example.com is a name of the app news"},
		{"names above a name that goes first", "443:1 tls=terminate host=*.example.com", Request{Apps: news("443:1 tls=passthrough host=a.example.com")}, ""},
		{"a name below names of another app", mine, Request{Apps: news("443:1 tls=passthrough host=*.example.com")}, "*.example.com is a name of the app news"},
		{"a name that it has already", mine, Request{Apps: append(news("443:1 tls=passthrough host=*.example.com"), App{Name: "mail", Operator: named(t, "mail", mine)})}, ""},
		{"a name below a domain of its own", mine, Request{Domains: map[string][]string{"mail": {"*.example.com"}, "news": {"mail.example.com"}}}, "mail.example.com is a domain of the app news"},
		{"a domain of its own, too", mine, Request{Domains: map[string][]string{"mail": {"mail.example.com"}, "news": {"mail.example.com"}}}, ""},
		{"an operator allows a domain of another app", mine, Request{
			Policy: Policy{OwnNames: names("*.example.com")}, Domains: map[string][]string{"news": {"mail.example.com"}},
		}, ""},
		{"names that apps may have", mine, Request{Policy: Policy{Names: names("*.example.com")}}, ""},
		{"no name that apps may have", "443:1 tls=terminate host=mail.example.com,a.example.com", Request{Policy: Policy{Names: names("mail.example.com"), OwnNames: names("b.example.com")}},
			"public port 443@a.example.com (PORTS line 1): a.example.com is not among the host names that apps may use (setting allowed-hosts); " +
				"use another one, or have an operator allow it: dokku expose:set mail allowed-hosts a.example.com,b.example.com"},
		{"beside an app that can't be read", mine, Request{
			Serving:    map[Key]RouteState{{Port: 443, ServerName: "news.example.com"}: {App: "news", Options: Options{TLS: PassTLS}}},
			Unreadable: map[string]MayClaim{"news": {Known: true}},
		}, ""},
		{"a name of an app that can't be read", mine, Request{
			Serving:    map[Key]RouteState{{Port: 443, ServerName: "mail.example.com"}: {App: "news", Options: Options{TLS: PassTLS}}},
			Unreadable: map[string]MayClaim{"news": {Known: true, Err: errors.New("broken")}},
		}, "leads to the app news"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.r.App, tt.r.Claims = "mail", named(t, "mail", tt.asked)
			tt.r.Policy.Max, tt.r.Policy.Allowed = 10, []portsfile.Range{{First: 1, Last: 65535}}
			switch err := Admit(tt.r); {
			case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v\nwant %q", err, tt.want)
			}
		})
	}
}

// Of two that can't share a frontend, the one that is served goes on, whatever came into force beside it.
func TestPlanOfNames(t *testing.T) {
	var s scene
	s.container("mail-1", imageA, "web.1", 1, 5443)
	s.container("news-1", imageA, "web.1", 2, 5443)
	s.container("chat-1", imageA, "web.1", 3, 5443)
	app := func(name, line string) App {
		return App{
			Name: name, Current: imageA, Images: map[string][]Claim{imageA: named(t, name, line)},
			Places: []Place{{Process: "web", Dyno: "web.1", Container: name + "-1"}},
		}
	}
	mail, news := app("mail", "443:5443 tls=passthrough host=mail.example.com,imap.example.com"), app("news", "443:5443 tls=terminate host=*.example.com")
	table, problems := s.plan(mail, news, app("chat", "443:5443 tls=passthrough accept-proxy=10.0.0.1"))
	var got []string
	for _, r := range table.Routes {
		got = append(got, r.App+" "+r.Key.String())
	}
	// The first in the order of their names are the first ones.
	if want := []string{"chat 443"}; !slices.Equal(got, want) || len(problems) != 3 {
		t.Errorf("got %q and %v", got, problems)
	}
	s.serving = map[Key]RouteState{{Port: 443, ServerName: "imap.example.com"}: {App: "mail", Options: Options{TLS: PassTLS}, Servers: up(s.listening[0])}}
	table, problems = s.plan(mail, news, app("chat", "443:5443 tls=passthrough accept-proxy=10.0.0.1"))
	got = nil
	for _, r := range table.Routes {
		got = append(got, r.App+" "+r.Key.String())
	}
	if want := []string{"mail 443@imap.example.com", "mail 443@mail.example.com", "news 443@*.example.com"}; !slices.Equal(got, want) || len(problems) != 1 {
		t.Errorf("got %q and %v", got, problems)
	}
}
