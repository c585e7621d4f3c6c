package haproxy

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"dokku-expose/deploy"
)

// proxyName is the name of a route's proxy in HAProxy: APP:PORT, APP:PORT:ADDRESS or APP:PORT:[ADDRESS]:HOST. HAProxy takes letters,
// digits and "-_.:" in a name, Dokku much more in an app's: every other byte is written as _XX, in hexadecimal. The underscore itself
// and the colon count as other bytes, so no two routes share a name, and parseName has it back.
func proxyName(app string, k deploy.Key) string {
	name := escape(app) + ":" + strconv.Itoa(int(k.Port))
	if k.IP.IsValid() || k.ServerName != "" {
		name += ":"
	}
	if k.IP.IsValid() {
		name += escape(k.IP.String())
	}
	if k.ServerName != "" {
		name += ":" + escape(k.ServerName)
	}
	return name
}

// parseName takes a proxy's name apart. It is false for proxies that belong to no route.
func parseName(name string) (app string, k deploy.Key, ok bool) {
	parts := strings.Split(name, ":")
	if len(parts) < 2 || len(parts) > 4 {
		return "", deploy.Key{}, false
	}
	for i, part := range parts {
		var err error
		if parts[i], err = unescape(part); err != nil {
			return "", deploy.Key{}, false
		}
	}
	port, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return "", deploy.Key{}, false
	}
	k.Port = uint16(port)
	if len(parts) == 4 {
		k.ServerName = parts[3]
	}
	if len(parts) > 2 && (parts[2] != "" || k.ServerName == "") {
		if k.IP, err = netip.ParseAddr(parts[2]); err != nil {
			return "", deploy.Key{}, false
		}
	}
	return parts[0], k, true
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
