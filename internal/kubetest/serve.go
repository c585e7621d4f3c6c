package kubetest

import (
	"bytes"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func (a *API) serve() {
	a.server = httptest.NewUnstartedServer(http.HandlerFunc(a.answer))
	a.gate = &gate{Listener: a.server.Listener}
	a.server.Listener = a.gate
	a.server.EnableHTTP2 = true
	a.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	// Clients that go away, and those with an unknown authority, are what tests do.
	a.server.Config.ErrorLog = log.New(discard{}, "", 0)
	a.server.StartTLS()
	a.t.Cleanup(func() {
		close(a.closed)
		a.gate.open()
		a.server.CloseClientConnections()
		a.server.Close()
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// answer answers one request.
func (a *API) answer(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.requests = append(a.requests, r.URL.RequestURI())
	handle, known := a.handle, a.knows(r)
	a.mu.Unlock()
	if handle != nil && handle(w, r) {
		return
	}
	if !known {
		refuse(w, http.StatusUnauthorized, "Unauthorized")
		return
	}
	if key, one := named(r.URL.Path); one {
		a.answerObject(w, r, key)
		return
	}
	query := r.URL.Query()
	s := selection{labels: query.Get("labelSelector"), fields: query.Get("fieldSelector")}
	path, found := strings.CutPrefix(r.URL.Path, "/api/v1/")
	if rest, namespaced := strings.CutPrefix(path, "namespaces/"); namespaced {
		s.namespace, path, _ = strings.Cut(rest, "/")
	}
	s.kind = kinds[path]
	switch {
	case !found || s.kind == "" || r.Method != http.MethodGet:
		refuse(w, http.StatusNotFound, "the server could not find the requested resource")
	case query.Get("watch") == "true":
		a.watch(w, r, s)
	default:
		a.answerList(w, r, s)
	}
}

// knows tells whether a request has credentials. The caller holds the lock.
func (a *API) knows(r *http.Request) bool {
	equal := func(x, y string) bool { return subtle.ConstantTimeCompare([]byte(x), []byte(y)) == 1 }
	if name, password, ok := r.BasicAuth(); ok {
		return name == "admin" && equal(password, a.Password)
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return equal(token, a.Token)
	}
	return len(r.TLS.PeerCertificates) > 0 && bytes.Equal(r.TLS.PeerCertificates[0].Raw, a.raw)
}

func (a *API) answerList(w http.ResponseWriter, r *http.Request, s selection) {
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	a.mu.Lock()
	left, known := chunk{version: a.version, items: a.list(s)}, true
	if token := r.URL.Query().Get("continue"); token != "" {
		left, known = a.chunks[token]
		known = known && left.version >= a.oldest
	}
	meta := Object{"resourceVersion": strconv.Itoa(left.version)}
	items := left.items
	if limit > 0 && len(items) > limit {
		items = items[:limit]
		token := fmt.Sprintf("chunk-%d", len(a.chunks)+1)
		a.chunks[token] = chunk{version: left.version, items: left.items[limit:]}
		meta["continue"] = token
	}
	a.mu.Unlock()
	if !known {
		refuse(w, http.StatusGone, "The provided continue parameter is too old to display a consistent list result")
		return
	}
	write(w, http.StatusOK, Object{"kind": s.kind + "List", "apiVersion": "v1", "metadata": meta, "items": slices.Concat([]Object{}, items)})
}

// watch sends the changes after the version that the request names, until its time is over.
func (a *API) watch(w http.ResponseWriter, r *http.Request, s selection) {
	query := r.URL.Query()
	at, err := strconv.Atoi(query.Get("resourceVersion"))
	seconds, err2 := strconv.Atoi(query.Get("timeoutSeconds"))
	if err != nil || err2 != nil {
		refuse(w, http.StatusBadRequest, "resourceVersion and timeoutSeconds must be numbers")
		return
	}
	over := time.NewTimer(time.Duration(seconds) * time.Second)
	defer over.Stop()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	a.mu.Lock()
	ends, breaks := a.ends, a.breaks
	closed := make(chan struct{})
	a.watches[closed] = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watches, closed)
		close(closed)
	}()
	for {
		a.mu.Lock()
		var events []Object
		expired := at < a.oldest
		if expired {
			events = []Object{{"type": "ERROR", "object": statusOf(http.StatusGone, fmt.Sprintf("too old resource version: %d (%d)", at, a.oldest))}}
		}
		for _, c := range a.history {
			if expired || c.version <= at {
				continue
			}
			at = c.version
			if event := c.event(s); event != nil && (event["type"] != "BOOKMARK" || query.Get("allowWatchBookmarks") == "true") {
				events = append(events, event)
			}
		}
		more, ended, broken := a.more, expired || a.ends != ends, a.breaks != breaks
		a.mu.Unlock()
		if broken {
			panic(http.ErrAbortHandler)
		}
		for _, event := range events {
			_ = json.NewEncoder(w).Encode(event)
		}
		if http.NewResponseController(w).Flush() != nil || ended {
			return
		}
		select {
		case <-more:
		case <-over.C:
			return
		case <-r.Context().Done():
			return
		case <-a.closed:
			return
		}
	}
}

// event is what a watch of s is told of a change, or nil.
func (c change) event(s selection) Object {
	if c.kind == "" {
		return Object{"type": "BOOKMARK", "object": Object{"kind": s.kind, "metadata": Object{"resourceVersion": strconv.Itoa(c.version)}}}
	}
	switch before, after := s.has(c.before), s.has(c.after); {
	case before && after:
		return Object{"type": "MODIFIED", "object": c.after}
	case after:
		return Object{"type": "ADDED", "object": c.after}
	case before:
		gone := Clone(c.before)
		gone["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(c.version)
		return Object{"type": "DELETED", "object": gone}
	}
	return nil
}

func statusOf(code int, message string) Object {
	reason := strings.ReplaceAll(http.StatusText(code), " ", "")
	if code == http.StatusGone {
		reason = "Expired"
	}
	return Object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code}
}

func refuse(w http.ResponseWriter, code int, message string) { write(w, code, statusOf(code, message)) }

func write(w http.ResponseWriter, code int, o Object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(o)
}

// gate is a listener whose connections can be stopped.
type gate struct {
	net.Listener
	mu sync.Mutex
	// opened is nil while the gate is open, and else closed when it opens.
	opened chan struct{}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

func (g *gate) wait() {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	if opened != nil {
		<-opened
	}
}

// Accept implements [net.Listener].
func (g *gate) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gated{Conn: conn, gate: g}, nil
}

type gated struct {
	net.Conn
	gate *gate
}

// Read implements [net.Conn].
func (c *gated) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.gate.wait()
	return n, err
}

// Write implements [net.Conn].
func (c *gated) Write(p []byte) (int, error) {
	c.gate.wait()
	return c.Conn.Write(p)
}
