package portsfile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"
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
	var names []string
	err := Items(text, func(item string) error {
		name, err := ParseServerName(item)
		names = append(names, name)
		return err
	})
	if err != nil {
		return ServerNames{}, err
	}
	return ServerNamesOf(names...), nil
}

// ServerNamesOf is the set of names that ParseServerName returned.
func ServerNamesOf(names ...string) ServerNames {
	names = slices.Clone(names)
	slices.Sort(names)
	return ServerNames{strings.Join(slices.Compact(names), ",")}
}

// hostNames are those of IDNA, as browsers look them up: in lower case, other scripts than Latin as Punycode.
var hostNames = idna.New(idna.MapForLookup(), idna.StrictDomainName(true), idna.VerifyDNSLength(true), idna.BidiRule())

// ParseServerName reads a host name as clients ask for it, or one that begins with "*." and stands for any one label there. It returns it in
// lower case, in Punycode and without a dot at its end. The error says what was expected.
func ParseServerName(text string) (string, error) {
	host, wild := strings.CutPrefix(text, anyLabel)
	if _, err := netip.ParseAddr(host); err == nil {
		return "", fmt.Errorf("%s is an address, which no client asks for by TLS: expected a host name", Quote(text))
	}
	name, err := hostNames.ToASCII(strings.TrimSuffix(host, "."))
	if err != nil {
		return "", fmt.Errorf("%s is not a host name: expected names such as mail.example.com,*.example.com", Quote(text))
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

// Cover tells whether a name is among them, or one that a wildcard stands for.
func (n ServerNames) Cover(name string) bool {
	return slices.ContainsFunc(n.List(), func(pattern string) bool { return NameCovers(pattern, name) })
}

// Wildcard is the server name that stands for name and for all others that differ in the first label only, "" for a name of one label.
func Wildcard(name string) string {
	_, parent, found := strings.Cut(name, ".")
	if !found {
		return ""
	}
	return anyLabel + parent
}

// NameCovers tells whether all clients that ask for name are among those that ask for pattern.
func NameCovers(pattern, name string) bool { return pattern == name || pattern == Wildcard(name) }
