package settings

import (
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"dokku-expose/hooks/dokku"
	"dokku-expose/portsfile"
)

// word takes one of a few words.
func word[T ~string](field func(*Values) *T, words ...T) func(*Values, string) error {
	return func(v *Values, text string) error {
		if !slices.Contains(words, T(text)) {
			return notOneOf(text, words)
		}
		*field(v) = T(text)
		return nil
	}
}

func notOneOf[T ~string](text string, words []T) error {
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	return fmt.Errorf("%q is none of its values, which are %s", text, strings.Join(names, ", "))
}

// putTotal takes what max-connections takes.
func putTotal(v *Values, text string) error {
	var each Values
	err := option("max-connections").put(&each, text)
	v.TotalConnections = each.Policy.Options.MaxConnections
	return err
}

// duration takes a time from low to high.
func duration(field func(*Values) *time.Duration, low, high time.Duration) func(*Values, string) error {
	return func(v *Values, text string) error {
		d, err := parseDuration(text, low, high)
		if err == nil {
			*field(v) = d
		}
		return err
	}
}

// durationOrZero takes a time from low to high, or 0, which has a meaning of its own.
func durationOrZero(field func(*Values) *time.Duration, low, high time.Duration, meaning string) func(*Values, string) error {
	return func(v *Values, text string) error {
		d, err := parseDuration(text, 0, high)
		if err == nil && d != 0 && d < low {
			err = fmt.Errorf("%q is too short: %s is the least it can be, but for 0, which %s", text, low, meaning)
		}
		if err == nil {
			*field(v) = d
		}
		return err
	}
}

func parseDuration(text string, low, high time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a time: expected a number with a unit, such as 10s, 5m or 500ms, or 0", text)
	case d < 0:
		return 0, fmt.Errorf("%q is less than nothing: expected a time such as 10s", text)
	case d < low:
		return 0, fmt.Errorf("%q is too short: %s is the least it can be", text, low)
	case d > high:
		return 0, fmt.Errorf("%q is too long: %s is the most it can be", text, short(high))
	case d%time.Millisecond != 0:
		return 0, fmt.Errorf("%q is too exact: whole milliseconds are the least that can be timed", text)
	}
	return d, nil
}

// short writes hours without "0m0s".
func short(d time.Duration) string { return strings.TrimSuffix(d.String(), "0m0s") }

func putOldConnections(v *Values, text string) error {
	if text == "keep" {
		v.OldConnections = KeepOld
		return nil
	}
	d, err := parseDuration(text, 0, longest)
	if err != nil {
		return fmt.Errorf("%w; or keep", err)
	}
	v.OldConnections = d
	return nil
}

func putStatsListen(v *Values, text string) error {
	addr, err := netip.ParseAddrPort(text)
	if err != nil || addr.Port() == 0 || addr.Addr().Zone() != "" {
		return fmt.Errorf("%q is not an address with a port; expected one like 127.0.0.1:8404 or [::1]:8404", text)
	}
	v.StatsListen = addr
	return nil
}

func putPortsFile(v *Values, text string) error {
	if !fs.ValidPath(text) || text == "." || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%q is not a path in the repository: expected one such as PORTS or deploy/PORTS, without . or .. in it, "+
			"or %s", text, IgnorePorts)
	}
	v.PortsFile = text
	return nil
}

func putKustomize(v *Values, text string) error {
	if text != "on" && text != "off" {
		return fmt.Errorf("%q is neither on nor off", text)
	}
	v.Kustomize = text == "on"
	return nil
}

func putCertificate(v *Values, text string) error {
	if err := dokku.ValidName(text); err != nil {
		return err
	}
	v.Certificate = text
	return nil
}

func putReserved(v *Values, text string) (err error) {
	v.Policy.Reserved, err = parsePorts(text)
	return err
}

func putAllowed(v *Values, text string) (err error) {
	v.Policy.Allowed, err = parsePorts(text)
	return err
}

func putAllowedHosts(v *Values, text string) (err error) {
	if v.Policy.Names = (portsfile.ServerNames{}); text != "any" {
		v.Policy.Names, err = portsfile.ParseServerNames(text)
	}
	return err
}

// parsePorts reads "22,80,6000-6010", or "none".
func parsePorts(text string) ([]portsfile.Range, error) {
	if text == "none" {
		return nil, nil
	}
	var ranges []portsfile.Range
	for part := range strings.SplitSeq(text, ",") {
		part = strings.Trim(part, " ")
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		low, lowIs := parseNumber(first, 1, 65535)
		high, highIs := parseNumber(last, 1, 65535)
		if !lowIs || !highIs {
			return nil, fmt.Errorf("%q is neither a port nor a range of ports: expected a list such as 22,80,6000-6010, or none", part)
		}
		if low > high {
			return nil, fmt.Errorf("%q is the wrong way round: expected %d-%d", part, high, low)
		}
		ranges = append(ranges, portsfile.Range{First: uint16(low), Last: uint16(high)})
	}
	return ranges, nil
}

// parseNumber takes digits only: no sign, no zero in front.
func parseNumber(text string, low, high int) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= low && n <= high && strconv.Itoa(n) == text
}

// putBind reads "10.0.0.1,192.168.0.0/16", or "any". The addresses that stand for all of a family, 0.0.0.0 and ::, are the
// networks that hold all of it.
func putBind(v *Values, text string) error {
	if text == "any" {
		v.Policy.Bind = nil
		return nil
	}
	var prefixes []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		part = strings.Trim(part, " ")
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(part); err == nil && addr.Zone() == "" {
				bits := addr.BitLen()
				if addr.IsUnspecified() {
					bits = 0
				}
				prefix = netip.PrefixFrom(addr, bits)
			}
		}
		if !prefix.IsValid() || prefix.Addr().Is4In6() {
			return fmt.Errorf("%q is neither an address nor a network: expected a list such as 10.0.0.1,192.168.0.0/16,fd00::/8, or any", part)
		}
		if prefix.Masked() != prefix {
			return fmt.Errorf("%q has bits beyond its length: expected %s", part, prefix.Masked())
		}
		prefixes = append(prefixes, prefix)
	}
	v.Policy.Bind = prefixes
	return nil
}

func putMax(v *Values, text string) error {
	n, ok := parseNumber(text, 0, 65535)
	if !ok {
		return fmt.Errorf("%q is not a number of ports: expected one from 0 to 65535", text)
	}
	v.Policy.Max = n
	return nil
}
