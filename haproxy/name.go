package haproxy

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"dokku-expose/deploy"
)

// proxyName is the name of a route's proxy in HAProxy: APP:PORT, or APP:PORT:ADDRESS. HAProxy takes letters, digits and
// "-_.:" in a name, Dokku much more in an app's: every other byte is written as _XX, in hexadecimal. The underscore itself
// and the colon count as other bytes, so no two routes share a name, and parseName has it back.
func proxyName(app string, l deploy.Frontend) string {
	name := escape(app) + ":" + strconv.Itoa(int(l.Port))
	if l.IP.IsValid() {
		name += ":" + escape(l.IP.String())
	}
	return name
}

// parseName takes a proxy's name apart. It is false for proxies that belong to no route.
func parseName(name string) (app string, l deploy.Frontend, ok bool) {
	parts := strings.Split(name, ":")
	if len(parts) != 2 && len(parts) != 3 {
		return "", deploy.Frontend{}, false
	}
	port, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return "", deploy.Frontend{}, false
	}
	l.Port = uint16(port)
	if len(parts) == 3 {
		text, err := unescape(parts[2])
		if err != nil {
			return "", deploy.Frontend{}, false
		}
		if l.IP, err = netip.ParseAddr(text); err != nil {
			return "", deploy.Frontend{}, false
		}
	}
	app, err = unescape(parts[0])
	return app, l, err == nil
}

func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '.', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02X", c)
		}
	}
	return b.String()
}

func unescape(s string) (string, error) {
	return url.PathUnescape(strings.ReplaceAll(s, "_", "%"))
}

// quote makes one word of HAProxy's configuration language of s: inside single quotes everything but the single quote stands
// for itself. s must not hold control characters, which no word can.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
