package settings

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dokku-expose/deploy"
)

// Global stands for the whole host where an app's name is expected; it is Dokku's word for it.
const Global = "--global"

// Scope says where a setting can be set.
type Scope int

const (
	// Both is for an app or, for all apps that have none of their own, for the host.
	Both Scope = iota
	// AppOnly is for an app.
	AppOnly
	// GlobalOnly is for the host.
	GlobalOnly
)

// Key is one setting.
type Key struct {
	Name  string
	Scope Scope
	// Default is its text when it is not set.
	Default string
	// Doc says in a few words what it is for, and what it can be.
	Doc string

	// admits tells that it only decides which public ports may be asked for: those in force stay as they are.
	admits bool
	// file tells that the value is what a file says. It is long: summary is what is shown of it.
	file    bool
	summary func(text string) string
	// routes tells that it is an option of routes: how connections are treated.
	routes bool
	// put parses the text and puts the value into its place.
	put func(v *Values, text string) error
}

// Values are the settings in force for an app.
type Values struct {
	// Engine is what serves the ports: HAProxy, Builtin, or Auto for what was there when the plugin was installed.
	Engine   string
	Upstream deploy.Upstream
	// PortsFile is a clean relative path with slashes, or IgnorePorts.
	PortsFile string
	// CheckTimeout is how long the private ports of a new container may take to accept; 0 asks for no check.
	CheckTimeout time.Duration
	Hold         time.Duration
	DrainWait    time.Duration
	// OldConnections is how long connections may stay on containers that are no longer current, or KeepOld.
	OldConnections time.Duration
	// Kustomize tells that pods get readiness probes and time to end.
	Kustomize      bool
	WorkerDeadline time.Duration
	// HealthCheck is an interval; 0 is off.
	HealthCheck time.Duration
	// HalfClosed is how long a connection of which one side has ended may be without any data; 0 is forever.
	HalfClosed time.Duration
	// TotalConnections is how many connections all public ports together may have at once; 0 is as many as can be had.
	TotalConnections int
	// Certificate is the app whose certificate clients see, or OwnCertificate.
	Certificate string
	// StatsListen is where the statistics page listens.
	StatsListen netip.AddrPort
	// Policy has the options of routes, too.
	Policy deploy.Policy
}

const (
	// IgnorePorts is the ports-file of an app whose PORTS is not to be read.
	IgnorePorts = "ignore"
	// OwnCertificate is the certificate of the app itself.
	OwnCertificate = "own"
	// KeepOld lets old connections stay until they end by themselves.
	KeepOld time.Duration = -1
)

// What the setting engine can be.
const (
	Auto    = "auto"
	HAProxy = "haproxy"
	Builtin = "builtin"
)

// The longest time that HAProxy can count is 2^31-1 milliseconds, a little less than 25 days.
const longest = 24 * 24 * time.Hour

// keys are all settings in the order of their documentation.
var keys = []Key{
	{
		Name: "engine", Scope: GlobalOnly, Default: Auto,
		Doc: "what serves the ports: haproxy, builtin, or auto, which is haproxy where that was installed before the plugin",
		put: word(func(v *Values) *string { return &v.Engine }, Auto, HAProxy, Builtin),
	},
	{
		Name: "upstream", Default: "auto",
		Doc: "how containers are reached: auto, direct or published",
		put: word(func(v *Values) *deploy.Upstream { return &v.Upstream },
			deploy.UpstreamAuto, deploy.UpstreamDirect, deploy.UpstreamPublished),
	},
	{
		Name: "ports-file", Scope: AppOnly, Default: "PORTS",
		Doc: "path of the PORTS file in the repository, or ignore",
		put: putPortsFile,
	},
	{
		Name: "check-timeout", Default: "30s",
		Doc: "how long a new container's private ports may take to accept; 0 does not check them",
		put: duration(func(v *Values) *time.Duration { return &v.CheckTimeout }, 0, time.Hour),
	},
	{
		Name: "hold", Default: "10s",
		Doc: "how long a new connection waits while no container is up",
		put: duration(func(v *Values) *time.Duration { return &v.Hold }, 0, time.Hour),
	},
	{
		Name: "drain-wait", Default: "0",
		Doc: "how long a deploy waits for the old containers' connections to end",
		put: duration(func(v *Values) *time.Duration { return &v.DrainWait }, 0, 24*time.Hour),
	},
	{
		Name: "old-connections", Default: "keep",
		Doc: "connections on old containers: keep, or cut them after a time",
		put: putOldConnections,
	},
	{
		Name: "kustomize", Default: "on",
		Doc: "on the scheduler k3s: on gives pods a readiness probe and time to end, off leaves them as they are",
		put: putKustomize,
	},
	{
		Name: "worker-deadline", Scope: GlobalOnly, Default: "24h",
		Doc: "how long an old HAProxy worker may keep its connections after a reload, a former daemon after an update",
		put: duration(func(v *Values) *time.Duration { return &v.WorkerDeadline }, time.Second, longest),
	},
	option("check"),
	{
		Name: "health-check", Default: "2s",
		Doc: "interval of the connect check on running containers; 0 is off",
		// More often than that, the checks are a load of their own.
		put: durationOrZero(func(v *Values) *time.Duration { return &v.HealthCheck }, 100*time.Millisecond, time.Hour, "turns it off"),
	},
	option("allow"),
	option("proxy-protocol"),
	option("accept-proxy"),
	option("max-connections"),
	{
		Name: "total-connections", Scope: GlobalOnly, Default: "0",
		Doc: "how many connections all public ports together may have at once, the next ones wait; 0 is as many as open files allow",
		put: putTotal,
	},
	option("rate"),
	option("idle-timeout"),
	{
		Name: "half-closed-timeout", Default: "60s",
		Doc: "how long a connection of which one side has ended may be without any data; 0 is forever",
		put: durationOrZero(func(v *Values) *time.Duration { return &v.HalfClosed }, time.Second, longest, "is forever"),
	},
	option("balance"),
	option("tls"),
	option("alpn"),
	option("starttls"),
	{
		Name: "cert", Default: OwnCertificate,
		Doc: "whose certificate clients with TLS see: own, which is the app's, or the name of another app",
		put: putCertificate,
	},
	{
		Name: "client-ca", Default: "none", file: true,
		Doc: "the authorities of which clients need a certificate where tls=terminate: a file in PEM, which is copied, or - for stdin; or none",
		put: putClientCA, summary: summarizeCA,
	},
	{
		Name: "stats-listen", Scope: GlobalOnly, Default: "127.0.0.1:8404",
		Doc: "address and port of the statistics page",
		put: putStatsListen,
	},
	{
		Name: "reserved-ports", Default: "22,80,443", admits: true,
		Doc: "ports that no app gets unless its own allowed-ports has them: ports and ranges, or none",
		put: putReserved,
	},
	{
		Name: allowedPorts, Default: "1-65535", admits: true,
		Doc: "ports that apps may ask for; of an app: ports that it may have beside those: ports and ranges, or none",
		put: putAllowed,
	},
	{
		Name: allowedHosts, Default: "any", admits: true,
		Doc: "names that apps may ask for with host, if no other app has them; of an app: names that it may have whoever else has them: host names, or any",
		put: putAllowedHosts,
	},
	{
		Name: "allow-bind", Default: "any", admits: true,
		Doc: "addresses that apps may bind: addresses and networks, or any",
		put: putBind,
	},
	{
		Name: "max-ports", Default: "1024", admits: true,
		Doc: "how many public ports an app may have",
		put: putMax,
	},
}

// Beside the settings an app's file has what other commands set.
const (
	mappingsKey = "mappings"
	disabledKey = "disabled"
)

// allowedPorts is also what lets an app have a reserved port.
const allowedPorts = "allowed-ports"

// allowedHosts is also what lets an app have a name of another app.
const allowedHosts = "allowed-hosts"

// option is the setting for mappings that do not give the option of the same name.
func option(name string) Key {
	rows := deploy.Registry()
	o := rows[slices.IndexFunc(rows, func(o deploy.Option) bool { return o.Key == name })]
	return Key{Name: name, Default: o.Default, Doc: o.Setting, routes: true, put: func(v *Values, text string) error {
		switch err := o.Set(&v.Policy.Options, text); {
		case err == nil:
			return nil
		case o.Words != nil:
			return notOneOf(text, o.Words)
		default:
			return fmt.Errorf("%q: %w; or %s", text, err, o.Default)
		}
	}}
}

// in tells whether the setting can be set in the file of scope, which is an app's name or [Global].
func (k Key) in(scope string) bool {
	return k.Scope == Both || (k.Scope == GlobalOnly) == (scope == Global)
}

// misplaced says where a setting that can't be set in this scope belongs.
func (k Key) misplaced() error {
	if k.Scope == GlobalOnly {
		return fmt.Errorf("%s is a setting of the whole host: dokku expose:set %s %s VALUE", k.Name, Global, k.Name)
	}
	return fmt.Errorf("%s is a setting of a single app: dokku expose:set APP %s VALUE", k.Name, k.Name)
}

func findKey(name string) (Key, bool) {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return keys[i], true
}

// Admits tells whether a setting only decides which public ports may be asked for from now on.
func Admits(name string) bool {
	key, known := findKey(name)
	return known && key.admits
}

// OfRoutes tells whether a setting is how connections to open ports are treated.
func OfRoutes(name string) bool {
	key, known := findKey(name)
	return known && key.routes
}

// OfFile tells whether the value of a setting is what a file says, so that its path is given.
func OfFile(name string) bool {
	key, known := findKey(name)
	return known && key.file
}

// Show is what is shown of a value.
func (k Key) Show(text string) string {
	if k.summary == nil || text == "" || text == k.Default {
		return text
	}
	return k.summary(text)
}

// unknown says which settings there are in this scope, and which of them may have been meant. Others are names that the
// place knows beside them.
func unknown(name, scope string, others ...string) error {
	var known []string
	for _, k := range keys {
		if k.in(scope) {
			known = append(known, k.Name)
		}
	}
	known = append(known, others...)
	meant := ""
	for _, k := range known {
		if distance(name, k) <= 2 && (meant == "" || distance(name, k) < distance(name, meant)) {
			meant = k
		}
	}
	if meant != "" {
		meant = fmt.Sprintf("did you mean %s? ", meant)
	}
	return fmt.Errorf("there is no setting %q: %sknown are %s", name, meant, strings.Join(known, ", "))
}

// distance is how many letters must be added, removed or changed to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// Reference lists all keys with what they are for, one a line.
func Reference() string {
	var b strings.Builder
	for _, k := range keys {
		scope := ""
		switch k.Scope {
		case AppOnly:
			scope = " (app only)"
		case GlobalOnly:
			scope = " (--global only)"
		}
		fallback := ""
		if k.Default != "" {
			fallback = fmt.Sprintf("; default %s", k.Default)
		}
		fmt.Fprintf(&b, "  %-17s %s%s%s\n", k.Name, k.Doc, fallback, scope)
	}
	return strings.TrimRight(b.String(), "\n")
}
