package haproxy

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dokku-expose/deploy"
)

// Routes that share a frontend by server names are named. One frontend for all of them, called names, has their public addresses, and reads
// each ClientHello. A backend for each named route says who may connect, before TLS, and passes on to the route's own proxy: by a unix socket
// of HAProxy's own, with a PROXY header that says who the client is. Everything else is there, as for other routes. A client of a name that
// no route has gets to the frontend called alert.

const (
	// namesPrefix begins the name of a named route's backend. No route's proxy has a name like that: it would have no port.
	namesPrefix = "names:"
	// unknownBackend is the backend for names that no route has, alertFrontend is where it leads to.
	unknownBackend, alertFrontend = "unknown", "alert"
	// someConnections is how many connections HAProxy takes at least, where it has not told yet: its service has files for more.
	someConnections = 20_000
	// maxUnixPath is how long the path of a socket may be that HAProxy binds: it binds a longer one, with its process id, first.
	maxUnixPath = 92
)

// namesMaxConn is how many clients named routes may have at once, of the connections that HAProxy takes. A client takes two of these, one in
// the frontend called names and one in its route's. Were all taken in the first one, every client would wait for the second one forever.
func namesMaxConn(connections int) int {
	return max(cmp.Or(connections, someConnections)/2, 1)
}

// namedFrontends are the frontends of which some route has a server name.
func namedFrontends(routes []deploy.Route) map[deploy.Frontend]bool {
	named := make(map[deploy.Frontend]bool)
	for _, r := range routes {
		if r.Key.ServerName != "" {
			named[r.Key.Frontend()] = true
		}
	}
	return named
}

// namesView is what named routes have in common, in words of HAProxy's language.
type namesView struct {
	Binds []string
	// HalfClosed is in milliseconds, 0 for no limit: as much as any route allows.
	HalfClosed int64
	// Delay is how long a ClientHello may take, HeaderTimeout how long a PROXY header may, in milliseconds; 0 where none is read.
	Delay, HeaderTimeout int64
	// Proxies are conditions, each for some proxies of a frontend whose header is read.
	Proxies []string
	// Exact, Wildcard and Rest say which clients get to which route. The first one that applies counts.
	Exact, Wildcard, Rest []string
	// Alert is the address of the frontend for other names, AlertBind its bind.
	Alert, AlertBind string
}

// namesView is nil when no proxy is named.
func (e *Engine) namesView(proxies []proxy, ipv6 bool) *namesView {
	v := &namesView{
		Delay: milliseconds(handshakeTimeout), Alert: e.unixAddr(alertFrontend),
		AlertBind: e.bindUnix(alertFrontend) + " ssl strict-sni crt " + quote(e.bundleFile(alertFrontend)),
	}
	bound, limited := make(map[deploy.Frontend]bool), true
	for _, p := range proxies {
		if !p.named {
			continue
		}
		frontend := p.route.Key.Frontend()
		if !bound[frontend] {
			bound[frontend] = true
			v.Binds = append(v.Binds, bind(frontend, ipv6)+" name "+quote(frontend.String()))
			v.addProxies(frontend, p.route.Options.AcceptProxy)
		}
		d := milliseconds(p.route.HalfClosedTimeout())
		limited = limited && d > 0
		v.HalfClosed = max(v.HalfClosed, d)
		use := namesPrefix + p.name + " if " + onFrontend(frontend)
		switch name := p.route.Key.ServerName; {
		case name == "":
			v.Rest = append(v.Rest, use)
		case strings.HasPrefix(name, "*"):
			v.Wildcard = append(v.Wildcard, use+" { var(sess.wildcard) -m str -- "+quote(name)+" }")
		default:
			v.Exact = append(v.Exact, use+" { var(sess.name) -m str -- "+quote(name)+" }")
		}
	}
	if len(bound) == 0 {
		return nil
	}
	if !limited {
		v.HalfClosed = 0
	}
	return v
}

// onFrontend is the condition that a client has come by a frontend, in few words: a line of networks leaves room for no more.
func onFrontend(f deploy.Frontend) string { return "{ so_name " + quote(f.String()) + " }" }

// addProxies has the headers of a frontend's proxies read.
func (v *namesView) addProxies(f deploy.Frontend, proxies deploy.Networks) {
	four, six := families(proxies)
	for _, a := range append(lines("ipv4", 0, four), lines("!ipv4", 0, six)...) {
		v.Proxies = append(v.Proxies, fmt.Sprintf("%s %s { src %s }", onFrontend(f), a.Name, strings.Join(a.Networks, " ")))
		v.HeaderTimeout = milliseconds(headerTimeout)
	}
}

// leftView is for clients that a former worker has read the ClientHello of, and connects to a named route that is not there any more.
type leftView struct {
	// Binds are in the frontend called names, which looks for another route.
	Binds []string
	// Proxies are frontends of their own, for what has become an address without names, by the proxy's name.
	Proxies map[string]*leftProxy
}

// leftProxy is what leads to a proxy by the sockets of former named ones.
type leftProxy struct {
	Binds []string
	// Allow and Rules say who may connect, as the proxy does where clients come to its own address.
	Allow, Rules string
}

// left is what named, the names of former named proxies, leave.
func (e *Engine) left(proxies []proxy, named map[string]bool) (v leftView, err error) {
	v.Proxies = make(map[string]*leftProxy)
	at, stays := make(map[deploy.Frontend]proxy), make(map[string]bool)
	for _, p := range proxies {
		at[p.route.Key.Frontend()], stays[p.name] = p, p.named
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		_, k, _ := parseName(name)
		bind := e.bindUnix(name) + " accept-proxy"
		switch p, ok := at[k.Frontend()]; {
		case !ok || stays[name]:
		case p.named:
			v.Binds = append(v.Binds, bind+" name "+quote(k.Frontend().String()))
		default:
			l := v.Proxies[p.name]
			if l == nil {
				if l, err = leftFor(p); err != nil {
					return leftView{}, err
				}
				v.Proxies[p.name] = l
			}
			l.Binds = append(l.Binds, bind+e.tlsWords(p))
		}
	}
	return v, nil
}

// leftFor is what leads to p, without binds.
func leftFor(p proxy) (*leftProxy, error) {
	l := new(leftProxy)
	for _, a := range allowACLs(0, p.route.Options.Allow) {
		a.Number = 0 // They last for a moment only, and change with a reload.
		l.Allow += "\n    acl " + a.String()
	}
	r := rules{Stage: "session", Rate: p.route.Options.Rate, OtherTable: true}
	if r.Rate > 0 {
		r.Table = p.name
	}
	var err error
	l.Rules, err = make(writtenRules).lines("admission", r)
	return l, err
}

// socketFile is the path of the socket on which a proxy gets its clients from HAProxy itself. The name is a hash, because an app's may be
// too long for a path. One whose route is gone stays as a file until HAProxy's folder is made anew, and nobody listens there.
func (e *Engine) socketFile(proxy string) string {
	sum := sha256.Sum256([]byte(proxy))
	return filepath.Join(filepath.Dir(e.cfg.StatsSocket), fmt.Sprintf("%x.sock", sum[:16]))
}

func (e *Engine) unixAddr(proxy string) string { return quote("unix@" + e.socketFile(proxy)) }

// bindUnix is the bind of such a socket. Those that wait there are those that wait for a route's max-connections; without a backlog HAProxy
// would have no more of them wait than it accepts.
func (e *Engine) bindUnix(proxy string) string { return e.unixAddr(proxy) + " mode 600 backlog 4096" }

// supportsNames is Supports for routes with a server name.
func (e *Engine) supportsNames() error {
	if path := e.socketFile(alertFrontend); len(path) > maxUnixPath {
		return fmt.Errorf("HAProxy needs a socket for each server name, and the path %s is longer than %d bytes; %s", path, maxUnixPath, useBuiltin)
	}
	return e.supportsTLS()
}

// certifyUnknown makes the certificate of the frontend called alert, if routes need it and there is none. Named routes that do not run are
// not served without it.
func (e *Engine) certifyUnknown(routes []deploy.Route, live *snapshot) (good []deploy.Route, refused []*deploy.RouteError) {
	named := namedFrontends(routes)
	if len(named) == 0 {
		return routes, nil
	}
	err := e.makeUnknownBundle()
	if err == nil {
		return routes, nil
	}
	for _, r := range routes {
		_, runs := live.proxies[proxyName(r.App, r.Key)]
		if named[r.Key.Frontend()] {
			refused = append(refused, &deploy.RouteError{App: r.App, Key: r.Key, Err: fmt.Errorf("a certificate for HAProxy's own use: %w", err)})
		}
		if runs || !named[r.Key.Frontend()] {
			good = append(good, r)
		}
	}
	return good, refused
}

// makeUnknownBundle makes a certificate that no client gets to see, for a name that nobody can have. HAProxy warns of TLS without any.
func (e *Engine) makeUnknownBundle() error {
	path := e.bundleFile(alertFrontend)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: unknownBackend + ".invalid"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(100, 0, 0),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return e.replace(path, text)
}
