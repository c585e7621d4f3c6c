package deploy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"dokku-expose/portsfile"
)

// MaxServerNames is how many names one option may have.
const MaxServerNames = 50

// anyLabel begins a server name that stands for any one label, as in a certificate.
const anyLabel = "*."

// ServerNames is a set of names that clients ask for with TLS (SNI). The zero value says nothing. Two of them are equal (==) if and only if
// they are written the same.
type ServerNames struct {
	// text is the canonical form.
	text string
}

// ParseServerNames reads host names that stand between commas, at most [MaxServerNames] of them. The error says what was expected.
func ParseServerNames(text string) (ServerNames, error) {
	if n := strings.Count(text, ",") + 1; n > MaxServerNames {
		return ServerNames{}, fmt.Errorf("expected at most %d names, not %d", MaxServerNames, n)
	}
	var (
		names  []string
		offset int
	)
	for item := range strings.SplitSeq(text, ",") {
		name, err := parseServerName(strings.Trim(item, " "))
		if err != nil {
			return ServerNames{}, &portsfile.ItemError{Offset: offset, Err: err}
		}
		names = append(names, name)
		offset += len(item) + len(",")
	}
	slices.Sort(names)
	return ServerNames{strings.Join(slices.Compact(names), ",")}, nil
}

// hostNames are those of IDNA, as browsers look them up: in lower case, other scripts than Latin as Punycode.
var hostNames = idna.New(idna.MapForLookup(), idna.StrictDomainName(true), idna.VerifyDNSLength(true), idna.BidiRule())

func parseServerName(text string) (string, error) {
	host, wild := strings.CutPrefix(text, anyLabel)
	if _, err := netip.ParseAddr(host); err == nil {
		return "", fmt.Errorf("%s is an address, which no client asks for by TLS: expected a host name", portsfile.Quote(text))
	}
	name, err := hostNames.ToASCII(strings.TrimSuffix(host, "."))
	if err != nil {
		return "", fmt.Errorf("%s is not a host name: expected names such as mail.example.com,*.example.com", portsfile.Quote(text))
	}
	if wild {
		name = anyLabel + name
	}
	return name, nil
}

// String returns the canonical form: sorted, in lower case, no name twice. The zero value's is empty.
func (n ServerNames) String() string { return n.text }

// List returns the names in the order of the canonical form.
func (n ServerNames) List() []string {
	if n.text == "" {
		return nil
	}
	return strings.Split(n.text, ",")
}

// MarshalText returns the canonical form.
func (n ServerNames) MarshalText() ([]byte, error) { return []byte(n.text), nil }

// UnmarshalText reads what MarshalText returned.
func (n *ServerNames) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*n = ServerNames{}
		return nil
	}
	parsed, err := ParseServerNames(string(text))
	if err == nil && parsed.text != string(text) {
		err = errors.New("server names are not in canonical form")
	}
	if err == nil {
		*n = parsed
	}
	return err
}

// Wildcard is the server name that stands for name and for all others that differ in the first label only, "" for a name of one label.
func Wildcard(name string) string {
	_, parent, found := strings.Cut(name, ".")
	if !found {
		return ""
	}
	return anyLabel + parent
}

// NameCovers tells whether clients that ask for name are among those that ask for pattern.
func NameCovers(pattern, name string) bool { return pattern == name || pattern == Wildcard(name) }
