package portsfile

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options say how the connections of a mapping are treated. What is the zero value is not said, in JSON neither: who does not
// know an option is not asked for it in vain.
type Options struct {
	// Allow are the networks whose clients may connect; others are closed at accept.
	Allow Networks `json:",omitzero"`
	// ProxyProtocol is the header that tells the app each client's address.
	ProxyProtocol ProxyProtocol `json:",omitzero"`
	// AcceptProxy are the upstream proxies whose PROXY header is read, and required. Its address is the client's from then on.
	AcceptProxy Networks `json:",omitzero"`
	// MaxConnections is how many connections there may be at once; the next ones wait to be accepted.
	MaxConnections int `json:",omitzero"`
	// Rate is how many new connections one source may make in [RatePeriod]; others are closed at accept. A source is an IPv4
	// address, or a /64 network of IPv6.
	Rate int `json:",omitzero"`
	// IdleTimeout is how long a connection may be without any data in either direction, in whole milliseconds.
	IdleTimeout time.Duration `json:",omitzero"`
	// Balance is how a container is chosen.
	Balance Balance `json:",omitzero"`
	// Check is how a container is asked whether it accepts connections.
	Check Check `json:",omitzero"`
}

// String returns the options that are said in canonical form, as a line of a PORTS file has them behind its ports.
func (o Options) String() string {
	return strings.Join(Mapping{Process: DefaultProcess, Options: o}.words(), " ")
}

// ParseOptions reads what [Options.String] returned.
func ParseOptions(text string) (Options, error) {
	var (
		p parser
		m Mapping
	)
	if p.printable(text) {
		p.parseOptions(&m, split(text))
	}
	_, err := p.result()
	return m.Options, err
}

// ProxyProtocol is a form of the PROXY protocol's header, or none.
type ProxyProtocol string

// The values of the option proxy-protocol.
const (
	NoProxyHeader ProxyProtocol = "off"
	// ProxyV1 is the form for humans, ProxyV2 the binary one.
	ProxyV1 ProxyProtocol = "v1"
	ProxyV2 ProxyProtocol = "v2"
)

// Balance is a way to choose one of several containers.
type Balance string

// The values of the option balance.
const (
	// LeastConn is the one with the fewest connections.
	LeastConn Balance = "leastconn"
	// RoundRobin is each in turn.
	RoundRobin Balance = "roundrobin"
	// BySource is the same one for the same source address, as long as the containers are the same.
	BySource Balance = "source"
)

// Check is a way to find out whether a container accepts connections, or none.
type Check string

// The values of the option check.
const (
	// ConnectCheck begins to connect, and ends that before the app could accept.
	ConnectCheck Check = "connect"
	// NoCheck leaves the port alone: what connects there is a client.
	NoCheck Check = "off"
)

const (
	// RatePeriod is the time that the option rate counts in.
	RatePeriod = 10 * time.Second
	// MaxRate and MaxMaxConnections are the most that these options can be.
	MaxRate           = 100_000
	MaxMaxConnections = 1_000_000
	// MinIdleTimeout and MaxIdleTimeout are what that option can be. Longer times than 24 days are too long for HAProxy's clock.
	MinIdleTimeout = time.Second
	MaxIdleTimeout = 24 * 24 * time.Hour
)

// An option is a KEY=VALUE that may follow a mapping. A new one is a field of [Mapping] and a row of options.
type option struct {
	key string
	// value is the placeholder of the value in messages.
	value string
	// fallback is what goes where the option is not given, doc what the option means.
	fallback, doc string
	// parse sets the mapping's field from a value that is not empty. Its error says what was expected.
	parse func(m *Mapping, value string) error
	// format returns the value in canonical form, "" when it is not given or the default of all mappings.
	format func(m Mapping) string
}

// bySetting is the fallback of options that are settings, too.
const bySetting = "the setting"

// options are in the order of the canonical form.
var options = []option{
	{
		key: "process", value: "TYPE", fallback: "`" + DefaultProcess + "`",
		doc: "the process type of the Procfile that serves the port",
		parse: func(m *Mapping, value string) error {
			if !processType.MatchString(value) {
				return errors.New(`expected a process type of the Procfile: up to 63 letters, digits, "-" and "_"`)
			}
			m.Process = value
			return nil
		},
		format: func(m Mapping) string {
			if m.Process == DefaultProcess {
				return ""
			}
			return m.Process
		},
	},
	{
		key: "allow", value: "NETWORK,...", fallback: bySetting,
		doc: "the networks and addresses that may connect; others are closed at accept",
		parse: func(m *Mapping, value string) (err error) {
			m.Options.Allow, err = ParseNetworks(value)
			return err
		},
		format: func(m Mapping) string { return m.Options.Allow.String() },
	},
	{
		key: "proxy-protocol", value: "off|v1|v2", fallback: bySetting,
		doc:    "the PROXY header that tells the app each client's address",
		parse:  oneOf(func(m *Mapping) *ProxyProtocol { return &m.Options.ProxyProtocol }, NoProxyHeader, ProxyV1, ProxyV2),
		format: func(m Mapping) string { return string(m.Options.ProxyProtocol) },
	},
	{
		key: "accept-proxy", value: "NETWORK,...", fallback: bySetting,
		doc: "the proxies before this one, whose PROXY header is read and required; of others none is read",
		parse: func(m *Mapping, value string) (err error) {
			m.Options.AcceptProxy, err = ParseNetworks(value)
			return err
		},
		format: func(m Mapping) string { return m.Options.AcceptProxy.String() },
	},
	{
		key: "max-connections", value: "NUMBER", fallback: bySetting,
		doc: "how many connections each port may have at once; the next ones wait",
		parse: func(m *Mapping, value string) (err error) {
			m.Options.MaxConnections, err = ParseMaxConnections(value)
			return err
		},
		format: func(m Mapping) string { return formatNumber(m.Options.MaxConnections, "") },
	},
	{
		key: "rate", value: "NUMBER/10s", fallback: bySetting,
		doc: "how many new connections an address (of IPv6: a /64 network) may make in 10 seconds; more are closed at accept",
		parse: func(m *Mapping, value string) (err error) {
			m.Options.Rate, err = ParseRate(value)
			return err
		},
		format: func(m Mapping) string { return formatNumber(m.Options.Rate, ratePer) },
	},
	{
		key: "idle-timeout", value: "TIME", fallback: bySetting,
		doc: "how long a connection may be without any data, as `10s` or `5m`",
		parse: func(m *Mapping, value string) (err error) {
			m.Options.IdleTimeout, err = ParseIdleTimeout(value)
			return err
		},
		format: func(m Mapping) string { return formatDuration(m.Options.IdleTimeout) },
	},
	{
		key: "balance", value: "leastconn|roundrobin|source", fallback: bySetting,
		doc:    "which container gets a connection: the one with the fewest, each in turn, or always the same for the same address",
		parse:  oneOf(func(m *Mapping) *Balance { return &m.Options.Balance }, LeastConn, RoundRobin, BySource),
		format: func(m Mapping) string { return string(m.Options.Balance) },
	},
	{
		key: "check", value: "connect|off", fallback: bySetting,
		doc:    "how containers are asked whether they accept: by a connection attempt that ends before the app sees it, or not at all",
		parse:  oneOf(func(m *Mapping) *Check { return &m.Options.Check }, ConnectCheck, NoCheck),
		format: func(m Mapping) string { return string(m.Options.Check) },
	},
}

// processType is what Dokku accepts for a process type in a Procfile (procfile-util 0.17, without its strict mode).
var processType = regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}$`)

// oneOf takes one of a few words.
func oneOf[T ~string](field func(*Mapping) *T, words ...T) func(*Mapping, string) error {
	return func(m *Mapping, value string) error {
		if !slices.Contains(words, T(value)) {
			names := make([]string, len(words))
			for i, w := range words {
				names[i] = string(w)
			}
			return fmt.Errorf("expected one of %s", strings.Join(names, ", "))
		}
		*field(m) = T(value)
		return nil
	}
}

// ParseMaxConnections reads a number of connections. The error says what was expected.
func ParseMaxConnections(text string) (int, error) {
	n, ok := parseNumber(text, MaxMaxConnections)
	if !ok {
		return 0, fmt.Errorf("expected a number of connections from 1 to %d", MaxMaxConnections)
	}
	return n, nil
}

// ratePer is how a rate ends.
const ratePer = "/10s"

// ParseRate reads a number of connections in [RatePeriod], such as 20/10s. The error says what was expected.
func ParseRate(text string) (int, error) {
	number, per := strings.CutSuffix(text, ratePer)
	n, ok := parseNumber(number, MaxRate)
	if !per || !ok {
		return 0, fmt.Errorf("expected a number of connections from 1 to %d in 10 seconds, such as 20%s", MaxRate, ratePer)
	}
	return n, nil
}

// ParseIdleTimeout reads a time such as 90s, 5m or 1h30m. The error says what was expected.
func ParseIdleTimeout(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < MinIdleTimeout || d > MaxIdleTimeout || d%time.Millisecond != 0 {
		return 0, fmt.Errorf("expected a time with a unit, such as 90s, 5m or 1h30m, from %s to %s",
			formatDuration(MinIdleTimeout), formatDuration(MaxIdleTimeout))
	}
	return d, nil
}

// parseNumber takes digits only, so that each number has one spelling.
func parseNumber(text string, most int) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 1 && n <= most && strconv.Itoa(n) == text
}

func formatNumber(n int, suffix string) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n) + suffix
}

// formatDuration writes "5m" where Go writes "5m0s".
func formatDuration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	text := d.String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}

func findOption(key string) (option, bool) {
	for _, o := range options {
		if o.key == key {
			return o, true
		}
	}
	return option{}, false
}

// knownOptions names all options on one line.
func knownOptions() string {
	known := make([]string, len(options))
	for i, o := range options {
		known[i] = o.key + "=" + o.value
	}
	return strings.Join(known, ", ")
}

// Reference lists all options with what they are for, one a line.
func Reference() string {
	var b strings.Builder
	for _, o := range options {
		fmt.Fprintf(&b, "  %s=%s\n      %s\n", o.key, o.value, strings.ReplaceAll(o.doc, "`", ""))
	}
	return strings.TrimRight(b.String(), "\n")
}
