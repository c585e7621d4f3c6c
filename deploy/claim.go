package deploy

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"dokku-expose/portsfile"
)

// Claim is one public address that an app asks for.
type Claim struct {
	App     string
	Key     Key
	Private uint16
	Process string
	// Options are those that the claim itself gives.
	Options Options
	// File and Line say where the app's PORTS asks for it. An operator's claim (`expose:add`) has neither.
	File string
	Line int
	// Mapped and Hosts are the public ports and the server names of the whole mapping that it is a part of. An operator's is taken back as
	// a whole.
	Mapped portsfile.Range
	Hosts  portsfile.ServerNames
}

// Mapping is the public side of that mapping, as `expose:remove` names it.
func (c Claim) Mapping() string {
	return Mapping{Proto: c.Key.Proto, Bind: c.Key.IP, Public: c.Mapped, Hosts: c.Hosts}.Clients()
}

// PrivatePort is where the claim leads to.
func (c Claim) PrivatePort() PrivatePort { return PrivatePort{c.Key.Proto, c.Private} }

// Where says who asked, for messages: "PORTS line 3", "expose:add".
func (c Claim) Where() string {
	if !c.pushed() {
		return "expose:add"
	}
	return fmt.Sprintf("%s line %d", c.File, c.Line)
}

// whereAll says the same of several claims: "PORTS lines 1-3, 7, expose:add".
func whereAll(claims []Claim) string {
	if len(claims) == 1 {
		return claims[0].Where()
	}
	lines := make(map[string][]portsfile.Range)
	for _, c := range claims {
		// A file has at the most as many lines as bytes, which is one more than the largest port.
		line := uint16(min(c.Line, math.MaxUint16))
		lines[c.File] = append(lines[c.File], portsfile.Range{First: line, Last: line})
	}
	var texts []string
	for _, file := range slices.Sorted(maps.Keys(lines)) {
		numbers := portsfile.Join(lines[file])
		switch {
		case file == "":
			texts = append(texts, Claim{}.Where())
		case len(numbers) == 1 && numbers[0].Len() == 1:
			texts = append(texts, Claim{File: file, Line: int(numbers[0].First)}.Where())
		default:
			texts = append(texts, fmt.Sprintf("%s lines %s", file, joined(numbers, ", ")))
		}
	}
	return strings.Join(texts, ", ")
}

// PublicPorts are the public addresses of claims, shortly: "22, 6000-6010, 127.0.0.1:80".
func PublicPorts(claims []Claim) string {
	keys := make([]Key, 0, len(claims))
	for _, c := range claims {
		keys = append(keys, c.Key)
	}
	return PublicAddresses(keys)
}

// PublicAddresses writes public addresses shortly: "22, 443@a.example.com, 6000-6010, 127.0.0.1:80".
func PublicAddresses(keys []Key) string {
	ports := make(map[Key][]portsfile.Range)
	for _, k := range keys {
		port := k.Port
		k.Port = 0
		ports[k] = append(ports[k], portsfile.Range{First: port, Last: port})
	}
	var texts []string
	for _, k := range slices.SortedFunc(maps.Keys(ports), Key.Compare) {
		for _, r := range portsfile.Join(ports[k]) {
			text := Mapping{Proto: k.Proto, Bind: k.IP, Public: r}.Listen()
			if k.ServerName != "" {
				text += portsfile.HostSeparator + k.ServerName
			}
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, ", ")
}

// pushed tells whether the claim came with a push, and is not an operator's.
func (c Claim) pushed() bool { return c.File != "" }

func (c Claim) String() string {
	return fmt.Sprintf("%s (%s of %s)", c.Key, c.Where(), c.App)
}

// OperatorClaims expands an operator's mapping, one claim for each of its ports, and each server name of these.
func OperatorClaims(app string, m Mapping) []Claim { return expand(app, "", 0, m) }

// FileClaims expands a whole PORTS file called name.
func FileClaims(app, name string, entries []Entry) []Claim {
	var claims []Claim
	for _, e := range entries {
		claims = append(claims, expand(app, name, e.Line, e.Mapping)...)
	}
	return claims
}

func expand(app, file string, line int, m Mapping) []Claim {
	names := m.Names()
	claims := make([]Claim, 0, m.Public.Len()*len(names))
	for public, private := range m.Ports() {
		for _, name := range names {
			claims = append(claims, Claim{
				App: app, Key: Key{Proto: m.Proto, IP: m.Bind, Port: public, ServerName: name}, Private: private, Process: m.Process, Options: m.Options,
				File: file, Line: line, Mapped: m.Public, Hosts: m.Hosts,
			})
		}
	}
	return claims
}

// UnknownProcesses tells which claims lead to a process type that is none of known, one error for each such type.
func UnknownProcesses(claims []Claim, known []string) error {
	unknown := make(map[string][]Claim)
	for _, c := range claims {
		if !slices.Contains(known, c.Process) {
			unknown[c.Process] = append(unknown[c.Process], c)
		}
	}
	has := "it has none"
	if len(known) > 0 {
		has = "it has: " + strings.Join(known, ", ")
	}
	var errs []error
	for _, process := range slices.Sorted(maps.Keys(unknown)) {
		of := unknown[process]
		errs = append(errs, fmt.Errorf("public port %s (%s) leads to the process type %s, which the Procfile does not have (%s); add it there, or name another one with process=TYPE",
			PublicPorts(of), whereAll(of), process, has))
	}
	return errors.Join(errs...)
}
