package haproxy

import (
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
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dokku-expose/deploy"
)

// Routes that share a frontend by server names are named. One proxy for all of them, called names, has their public addresses, and reads
// each ClientHello. It connects its client to the named route's own proxy, on a unix socket of HAProxy's own, and says in a PROXY header who
// the client is: all rules are where they are for other routes. A client of a name that no route has is connected to the proxy called
// unknown, which answers with the TLS alert for that.

const (
	// namesProxy is the name of the proxy that all named routes share, unknownProxy that of the one for all other names.
	namesProxy, unknownProxy = "names", "unknown"
	// someConnections is how many connections HAProxy takes at least, where it has not told yet: its service has files for more.
	someConnections = 20_000
	// maxUnixPath is how long the path of a socket may be that HAProxy binds: it binds a longer one, with its process id, first.
	maxUnixPath = 92
)

// namesMaxConn is how many clients named routes may have at once, of the connections that HAProxy takes. A client takes two of these, one in
// the proxy called names and one in its route's. Were all taken in the first one, every client would wait for the second one forever.
func namesMaxConn(connections int) int {
	if connections == 0 {
		connections = someConnections
	}
	return max(connections/2, 1)
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

// namesView is the proxy for named routes in words of HAProxy's language.
type namesView struct {
	Binds []string
	// HalfClosed is in milliseconds, 0 for no limit: as much as any route allows.
	HalfClosed int64
	// Delay is how long a ClientHello may take, HeaderTimeout how long a PROXY header may, in milliseconds; 0 where none is read.
	Delay, HeaderTimeout int64
	// Proxies are conditions, each for some proxies of a frontend whose header is read.
	Proxies []string
	// Exact, Wildcard and Rest say for which clients which route's server is used. The first one that applies is used.
	Exact, Wildcard, Rest []string
	// Servers are the routes' proxies.
	Servers []string
	// Unknown is the address of the proxy for other names, UnknownBind its bind.
	Unknown, UnknownBind string
}

// namesView is nil when no proxy is named.
func (e *Engine) namesView(proxies []proxy, ipv6 bool) *namesView {
	v := &namesView{
		Delay: milliseconds(handshakeTimeout), Unknown: e.unixAddr(unknownProxy),
		UnknownBind: e.bindUnix(unknownProxy) + " ssl strict-sni crt " + quote(e.bundleFile(unknownProxy)),
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
		v.Servers = append(v.Servers, p.name+" "+e.unixAddr(p.name))
		use := p.name + " if " + onFrontend(frontend)
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
	if path := e.socketFile(namesProxy); len(path) > maxUnixPath {
		return fmt.Errorf("HAProxy needs a socket for each server name, and the path %s is longer than %d bytes", path, maxUnixPath)
	}
	return e.supportsTLS()
}

// certifyUnknown makes the certificate of the proxy for unknown names, if routes need it and there is none. Named routes that do not run are
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
	path := e.bundleFile(unknownProxy)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: unknownProxy + ".invalid"},
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
