package deploy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dokku-expose/portsfile"
)

// Option is an option of mappings, and the setting of the same name for mappings that do not give it.
type Option struct {
	portsfile.Option[Options]
	// Default is the setting's text where nothing is set, Setting its documentation.
	Default, Setting string
	// Words are all that the value can be, nil where there is no such list.
	Words []string
	// UDP tells that mappings of UDP have it too.
	UDP bool
	// Set sets the option to a value of the setting. Default is the zero value. The error says what was expected.
	Set func(o *Options, text string) error

	// format returns the value in canonical form, "" where it is not given.
	format func(o *Options) string
	// combine replaces what a mapping asks for by what its routes get beside an operator's settings.
	combine func(asked, set *Options, pushed bool)
	// valid tells whether Parse can return the value.
	valid func(o *Options) bool
	// drop makes it one that is not given.
	drop func(o *Options)
}

// row is an option with a field of type T.
type row[T comparable] struct {
	key, value, doc   string
	fallback, setting string
	udp               bool
	field             func(*Options) *T
	// parse reads a value that is not empty. Its error says what was expected.
	parse func(text string) (T, error)
	// format returns the canonical form of a value other than the zero value.
	format func(T) string
	// stricter combines a push's value with the setting's; nil leaves the choice to the app.
	stricter func(a, b T) T
}

func (r row[T]) option() Option {
	var zero T
	// A default that mappings have no word for (any) does not parse, and has the zero value as its only form.
	usual, _ := r.parse(r.fallback)
	o := Option{Default: r.fallback, Setting: r.setting, UDP: r.udp}
	o.Key, o.Value, o.Doc = r.key, r.value, r.doc
	o.Parse = func(o *Options, value string) (err error) {
		*r.field(o), err = r.parse(value)
		return err
	}
	o.Set = func(o *Options, text string) (err error) {
		if *r.field(o) = zero; text != r.fallback {
			*r.field(o), err = r.parse(text)
		}
		return err
	}
	o.format = func(o *Options) string {
		if *r.field(o) == zero {
			return ""
		}
		return r.format(*r.field(o))
	}
	o.combine = func(asked, set *Options, pushed bool) {
		value, other := r.field(asked), *r.field(set)
		if pushed && r.stricter != nil && *value != zero && other != zero {
			*value = r.stricter(*value, other)
		}
		if *value = cmp.Or(*value, other); *value == usual {
			*value = zero
		}
	}
	o.drop = func(o *Options) { *r.field(o) = zero }
	o.valid = func(o *Options) bool {
		value := *r.field(o)
		// The common part of two options can be more networks than one option may name.
		if _, networks := any(value).(Networks); networks || value == zero {
			return true
		}
		read, err := r.parse(r.format(value))
		return err == nil && read == value
	}
	return o
}

// oneOf is the option whose value is one of a few words.
func oneOf[T ~string](r row[T], words ...T) Option {
	var names []string
	for _, w := range words {
		names = append(names, string(w))
	}
	r.value = strings.Join(names, "|")
	r.format = func(word T) string { return string(word) }
	r.parse = func(text string) (T, error) {
		if !slices.Contains(names, text) {
			return "", fmt.Errorf("expected one of %s", strings.Join(names, ", "))
		}
		return T(text), nil
	}
	o := r.option()
	o.Words = names
	return o
}

// String returns the options that are given in canonical form, as a line of a PORTS file has them behind its ports.
func (o Options) String() string {
	var words []string
	for _, row := range registry {
		if value := row.format(&o); value != "" {
			words = append(words, row.Key+"="+value)
		}
	}
	return strings.Join(words, " ")
}

// Valid tells whether each option is one that PORTS and settings can ask for.
func (o Options) Valid() bool {
	return !slices.ContainsFunc(registry, func(row Option) bool { return !row.valid(&o) })
}

// Complete implements [portsfile.Options].
func (o Options) Complete(proto Proto, hosts bool) error {
	switch {
	case proto == UDP && hosts:
		return errors.New("option host is for TCP: UDP has no host names")
	case proto == UDP && o != o.of(UDP):
		return fmt.Errorf("%s is for TCP; UDP has the options process, %s", o.without(o.of(UDP)), strings.Join(udpOptions(), ", "))
	case hosts && !o.names():
		return fmt.Errorf("option host needs tls=%s or tls=%s beside it: clients say by TLS which host they ask for", TerminateTLS, PassTLS)
	case o.ALPN.Protocols() != nil && o.TLS != TerminateTLS:
		return fmt.Errorf("option alpn needs tls=%s beside it: the app chooses the protocol else", TerminateTLS)
	case o.StartTLS == PostgresStartTLS && !o.names():
		return fmt.Errorf("option starttls needs tls=%s or tls=%s beside it", TerminateTLS, PassTLS)
	}
	return nil
}

// of are the options without those that the protocol has not.
func (o Options) of(proto Proto) Options {
	for _, row := range registry {
		if proto == UDP && !row.UDP {
			row.drop(&o)
		}
	}
	return o
}

// without are the options in canonical form that others have not.
func (o Options) without(others Options) string {
	for _, row := range registry {
		if row.format(&others) != "" {
			row.drop(&o)
		}
	}
	return o.String()
}

// udpOptions are the keys of the options that UDP has.
func udpOptions() (keys []string) {
	for _, row := range registry {
		if row.UDP {
			keys = append(keys, row.Key)
		}
	}
	return keys
}

// names tells whether clients say by TLS which host they ask for.
func (o Options) names() bool { return o.TLS == TerminateTLS || o.TLS == PassTLS }

// Beside implements [portsfile.Options].
func (o Options) Beside(other Options) error {
	switch {
	case o.names() != other.names():
		return fmt.Errorf("to share a port, both need tls=%s or tls=%s, and a host of their own", TerminateTLS, PassTLS)
	case o.names() && o.AcceptProxy != other.AcceptProxy:
		return errors.New("to share a port, both need the same accept-proxy: a PROXY header comes before the name")
	case o.names() && o.StartTLS != other.StartTLS:
		return errors.New("to share a port, both need the same starttls: it comes before the name")
	}
	return nil
}

// Mapping is a line of a PORTS file.
type Mapping = portsfile.Mapping[Options]

// Entry is a mapping and where it was read.
type Entry = portsfile.Entry[Options]

// language is PORTS with the options of the registry.
var language = func() (l portsfile.Language[Options]) {
	for _, row := range registry {
		l = append(l, row.Option)
	}
	return l
}()

// ParsePorts reads a PORTS file, see [portsfile.Language.Parse].
func ParsePorts(name, text string) ([]Entry, error) { return language.Parse(name, []byte(text)) }

// ParseMapping reads one mapping with its options, see [portsfile.Language.ParseMapping].
func ParseMapping(text string) (Mapping, error) { return language.ParseMapping(text) }

// ParseOptions reads what [Options.String] returned.
func ParseOptions(text string) (Options, error) {
	m, err := ParseMapping("1:1 " + text)
	return m.Options, err
}

// OptionsReference lists all options of a mapping with what they are for, one a line.
func OptionsReference() string { return language.Reference() }
