package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/host"
	"dokku-expose/portsfile"
)

// exposed is one mapping of an app as commands show it.
type exposed struct {
	App    string `json:"app"`
	Public string `json:"public"`
	// Hosts are the server names of the clients that it is for, none for all that no other mapping has.
	Hosts   []string `json:"hosts"`
	Private string   `json:"private"`
	Process string   `json:"process"`
	// From is where it comes from: "PORTS line 3", "expose:add".
	From string `json:"from"`
	// State is one of those that the help of expose:list names.
	State string `json:"state"`
	// Containers are the dynos that get new connections.
	Containers []string `json:"containers"`
	// TLS is nil where TLS does not end here, or nobody listens.
	TLS *endedTLS `json:"tls,omitempty"`
}

// endedTLS sums up the TLS of the ports and names of one mapping.
type endedTLS struct {
	// Versions counts clients by version: "TLSv1.3".
	Versions         map[string]uint64 `json:"versions"`
	HandshakesFailed uint64            `json:"handshakes_failed"`
	// CertificateEnds is zero where the certificate can't be read.
	CertificateEnds time.Time `json:"certificate_ends,omitzero"`
}

// view shows mappings beside what the engine and Docker say at this moment.
type view struct {
	serving    map[deploy.Key]deploy.RouteState
	containers []deploy.Endpoint
	// counted has the counters of what is served, nil where they are not asked for.
	counted map[deploy.Key]deploy.RouteState
	// ports are the local ports in use for connections to what is served.
	ports map[netip.AddrPort]listeners.Use
	// err is why the engine could not be asked, lost why a source of endpoints could not, by its name.
	err  error
	lost map[string]error
}

// look asks the engine and Docker. What can't be asked is shown as such: a list must not fail since HAProxy is down.
func look(ctx context.Context, h *host.Host) view {
	var v view
	w, err := h.Wire()
	if err == nil {
		_, v.serving, err = w.Serving(ctx)
	}
	v.containers, v.lost = h.Endpoints(ctx)
	v.err = errors.Join(err, v.countPorts())
	return v
}

// countTLS asks for counters where an app has a route that ends TLS: to count takes HAProxy several times as long as to say what it serves.
func (v *view) countTLS(ctx context.Context, h *host.Host, apps []string) error {
	endsTLS := func(r deploy.RouteState) bool {
		return r.Options.TLS == deploy.TerminateTLS && slices.Contains(apps, r.App)
	}
	if !slices.ContainsFunc(slices.Collect(maps.Values(v.serving)), endsTLS) {
		return nil
	}
	o, err := h.Counters(ctx)
	if err != nil {
		return fmt.Errorf("clients with TLS are not shown, since they can't be counted: %w", err)
	}
	h.AddCertificates(o.Routes)
	v.counted = o.Serving()
	return nil
}

// countPorts counts the local ports in use.
func (v *view) countPorts() (err error) {
	var servers []netip.AddrPort
	for _, service := range v.serving {
		servers = append(servers, service.All()...)
	}
	if len(servers) > 0 {
		v.ports, err = listeners.LocalPorts(servers)
	}
	return err
}

// exposedOf lists the mappings in force of an app, with an error those of them that can be read.
func exposedOf(h *host.Host, app string, v view) ([]exposed, error) {
	a, err := h.App(app)
	if err != nil {
		return nil, err
	}
	remembered, unread := h.State.Load(app)
	var (
		list  []exposed
		ports = remembered.Images[remembered.Current]
	)
	entries, wrong := deploy.ParsePorts(ports.File, ports.Text)
	asked := make(map[deploy.Key]bool)
	add := func(m deploy.Mapping, from string) {
		for _, c := range deploy.OperatorClaims(app, m) {
			asked[c.Key] = true
		}
		list = append(list, v.exposed(a, m, from))
	}
	for _, e := range entries {
		add(e.Mapping, deploy.Claim{File: ports.File, Line: e.Line}.Where())
	}
	set, err := h.Settings.Load(app)
	for _, m := range set.Mappings {
		add(m, deploy.Claim{}.Where())
	}
	// Ports stay open of files that can't be read any more.
	for _, m := range v.unasked(app, asked) {
		add(m, "nothing that can be read")
	}
	return list, errors.Join(unread, wrong, err)
}

// unasked are the ports that are served for an app and that none of its mappings asks for.
func (v view) unasked(app string, asked map[deploy.Key]bool) (list []deploy.Mapping) {
	for _, listen := range slices.SortedFunc(maps.Keys(v.serving), deploy.Key.Compare) {
		service := v.serving[listen]
		if service.App != app || asked[listen] {
			continue
		}
		hosts := portsfile.ServerNamesOf()
		if listen.ServerName != "" {
			hosts = portsfile.ServerNamesOf(listen.ServerName)
		}
		m := deploy.Mapping{Proto: listen.Proto, Hosts: hosts, Bind: listen.IP, Public: portsfile.Range{First: listen.Port, Last: listen.Port}, Process: service.Process}
		for _, addr := range service.All() {
			m.Private = portsfile.Range{First: addr.Port(), Last: addr.Port()}
		}
		list = append(list, m)
	}
	return list
}

func (v view) exposed(a deploy.App, m deploy.Mapping, from string) exposed {
	e := exposed{
		App: a.Name, Public: m.Listen(), Hosts: append([]string{}, m.Hosts.List()...), Private: m.Private.String(), Process: m.Process, From: from,
		Containers: []string{},
	}
	total, listening, out := 0, 0, false
	for _, c := range deploy.OperatorClaims(a.Name, m) {
		total++
		service, ok := v.serving[c.Key]
		if !ok || service.App != a.Name {
			continue
		}
		listening++
		for _, addr := range service.All() {
			use, known := v.ports[addr]
			out = out || known && use.Out()
		}
		if counted := v.counted[c.Key]; counted.Options.TLS == deploy.TerminateTLS {
			e.addTLS(counted)
		}
		for _, dyno := range v.dynos(a.Name, service) {
			if !slices.Contains(e.Containers, dyno) {
				e.Containers = append(e.Containers, dyno)
			}
		}
	}
	slices.Sort(e.Containers)
	switch {
	case v.err != nil, slices.ContainsFunc(slices.Collect(maps.Keys(v.lost)), a.Needs):
		e.State = "unknown"
	case listening == total && out:
		e.State = "no local ports"
	case listening == total && len(e.Containers) > 0:
		e.State = "serving"
	case listening == total:
		e.State = "held"
	case listening > 0:
		e.State = fmt.Sprintf("%d of %d ports open", listening, total)
	case a.Off != "":
		e.State = a.Off
	default:
		e.State = "closed"
	}
	return e
}

// addTLS adds a route that ends TLS.
func (e *exposed) addTLS(r deploy.RouteState) {
	if e.TLS == nil {
		e.TLS = &endedTLS{Versions: make(map[string]uint64)}
	}
	for version, clients := range r.TLSVersions {
		e.TLS.Versions[version] += clients
	}
	e.TLS.HandshakesFailed += r.HandshakesFailed
	e.TLS.CertificateEnds = r.CertificateEnds // That of the app, for all its routes.
}

// aboutTLS is a line that says what [deploy.RouteState.AboutTLS] does, "" without TLS.
func aboutTLS(app, public string, r deploy.RouteState) string {
	text := r.AboutTLS()
	if text == "" {
		return ""
	}
	return dokku.Visible(fmt.Sprintf("TLS of public port %s of %s: %s.", public, app, text)) + "\n"
}

// dynos names the containers behind a service.
func (v view) dynos(app string, service deploy.RouteState) []string {
	var dynos []string
	for _, addr := range service.Addresses(true) {
		name := addr.String()
		for _, c := range v.containers {
			if c.App == app && c.Owns(service.Key.Proto, addr) {
				name = c.Dyno
			}
		}
		dynos = append(dynos, name)
	}
	return dynos
}

// columns writes rows under headings, each column as wide as it needs to be.
func columns(rows [][]string) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}
