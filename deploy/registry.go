package deploy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"dokku-expose/portsfile"
)

// registry has a row for each field of [Options], in the order of the canonical form.
var registry = []Option{
	row[Networks]{
		udp: true, key: "allow", value: "NETWORK,...", fallback: "any",
		doc:     "the networks and addresses that may connect; others are closed at accept",
		setting: "whose clients may connect, others are closed at accept: addresses and networks, none, or any",
		field:   func(o *Options) *Networks { return &o.Allow },
		parse:   ParseNetworks, format: Networks.String, stricter: both,
	}.option(),
	oneOf(row[ProxyProtocol]{
		key: "proxy-protocol", fallback: string(NoProxyHeader),
		doc:     "the PROXY header that tells the app each client's address",
		setting: "the PROXY header that tells an app each client's address: off, v1 or v2",
		field:   func(o *Options) *ProxyProtocol { return &o.ProxyProtocol },
	}, NoProxyHeader, ProxyV1, ProxyV2),
	row[Networks]{
		key: "accept-proxy", value: "NETWORK,...", fallback: "none",
		doc:     "the proxies before this one, whose PROXY header is read and required; of others none is read",
		setting: "proxies before this one, whose PROXY header is read and required: addresses and networks, or none",
		field:   func(o *Options) *Networks { return &o.AcceptProxy },
		parse:   ParseNetworks, format: Networks.String, stricter: both,
	}.option(),
	row[int]{
		udp: true, key: "max-connections", value: "NUMBER", fallback: "0",
		doc:     "how many connections each port may have at once; the next ones wait",
		setting: "how many connections a public port may have at once, the next ones wait; 0 is no limit",
		field:   func(o *Options) *int { return &o.MaxConnections },
		parse:   connections(MaxMaxConnections, "", ""), format: strconv.Itoa, stricter: lower[int],
	}.option(),
	row[int]{
		udp: true, key: "rate", value: "NUMBER" + ratePer, fallback: "off",
		doc:     "how many new connections an address (of IPv6: a /64 network) may make in 10 seconds; more are closed at accept",
		setting: "how many new connections an address may make in 10 seconds, more are closed at accept: a number and /10s, or off",
		field:   func(o *Options) *int { return &o.Rate },
		parse:   connections(MaxRate, ratePer, " in 10 seconds, such as 20"+ratePer),
		format:  func(n int) string { return strconv.Itoa(n) + ratePer }, stricter: lower[int],
	}.option(),
	row[time.Duration]{
		udp: true, key: "idle-timeout", value: "TIME", fallback: "0",
		doc:     "how long a connection may be without any data, as `10s` or `5m`",
		setting: "how long a connection may be without any data; 0 is forever",
		field:   func(o *Options) *time.Duration { return &o.IdleTimeout },
		parse:   parseIdleTimeout, format: formatDuration, stricter: lower[time.Duration],
	}.option(),
	oneOf(row[Balance]{
		udp: true, key: "balance", fallback: string(LeastConn),
		doc:     "which container gets a connection: the one with the fewest, each in turn, or always the same for the same address",
		setting: "which container gets a connection: leastconn (the one with the fewest), roundrobin (each in turn) or source (the same for the same address)",
		field:   func(o *Options) *Balance { return &o.Balance },
	}, LeastConn, RoundRobin, BySource),
	oneOf(row[Check]{
		udp: true, key: "check", fallback: string(ConnectCheck),
		doc:     "how containers are asked whether they accept: by a connection attempt that ends before the app sees it, or not at all",
		setting: "how containers are asked whether they accept: connect, by an attempt that ends before the app sees it, or off",
		field:   func(o *Options) *Check { return &o.Check },
	}, ConnectCheck, NoCheck),
	oneOf(row[TLS]{
		key: "tls", fallback: string(NoTLS),
		doc:     "TLS for clients: ended here, by the app's certificate in Dokku, or passed on to the app, which has its own",
		setting: "TLS for clients: terminate, by the app's certificate in Dokku, passthrough to the app, or off",
		field:   func(o *Options) *TLS { return &o.TLS },
	}, NoTLS, TerminateTLS, PassTLS),
	row[ALPN]{
		key: "alpn", value: "PROTOCOL,...", fallback: string(NoALPN),
		doc:     "the protocols that ALPN chooses from where TLS ends here, the best first, as `imap`; who offers none of them goes on without",
		setting: "the protocols that ALPN chooses from where TLS ends, the best first, such as imap; or none",
		field:   func(o *Options) *ALPN { return &o.ALPN },
		parse:   parseALPN, format: func(a ALPN) string { return string(a) },
	}.option(),
	oneOf(row[StartTLS]{
		key: "starttls", fallback: string(NoStartTLS),
		doc:     "how clients ask for TLS: at once, or by Postgres' own message before it, which the built-in engine answers",
		setting: "how clients ask for TLS: off, at once, or postgres, by its own message, which the built-in engine answers",
		field:   func(o *Options) *StartTLS { return &o.StartTLS },
	}, NoStartTLS, PostgresStartTLS),
}

// Registry returns all options in the order of their documentation.
func Registry() []Option { return slices.Clone(registry) }

// ratePer is how a rate ends.
const ratePer = "/10s"

// lower is the stricter one of two limits.
func lower[T cmp.Ordered](a, b T) T { return min(a, b) }

// connections reads a number of connections that ends with per. It takes digits only, so that each number has one spelling.
func connections(most int, per, expected string) func(string) (int, error) {
	return func(text string) (int, error) {
		number, found := strings.CutSuffix(text, per)
		n, err := strconv.Atoi(number)
		if !found || err != nil || n < 1 || n > most || strconv.Itoa(n) != number {
			return 0, fmt.Errorf("expected a number of connections from 1 to %d%s", most, expected)
		}
		return n, nil
	}
}

// protocol is a name that ALPN may have, of those that need no escapes in a configuration: https://www.iana.org/assignments/tls-extensiontype-values
var protocol = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9./_+-]{0,31}$`)

func parseALPN(text string) (ALPN, error) {
	if text == string(NoALPN) {
		return NoALPN, nil
	}
	var names []string
	err := portsfile.Items(text, func(name string) error {
		switch {
		case !protocol.MatchString(name) || name == string(NoALPN):
			return fmt.Errorf("expected protocols as clients name them, such as imap, or %s alone", NoALPN)
		case slices.Contains(names, name):
			return fmt.Errorf("%s is there twice", name)
		case len(names) == MaxProtocols:
			return fmt.Errorf("expected %d protocols at most", MaxProtocols)
		}
		names = append(names, name)
		return nil
	})
	if err != nil {
		return "", err
	}
	return ALPN(strings.Join(names, ",")), nil
}

func parseIdleTimeout(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < MinIdleTimeout || d > MaxIdleTimeout || d%time.Millisecond != 0 {
		return 0, fmt.Errorf("expected a time with a unit, such as 90s, 5m or 1h30m, from %s to %s",
			formatDuration(MinIdleTimeout), formatDuration(MaxIdleTimeout))
	}
	return d, nil
}

// formatDuration writes "5m" where Go writes "5m0s".
func formatDuration(d time.Duration) string {
	text := d.String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}
