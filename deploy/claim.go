package deploy

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	"dokku-expose/portsfile"
)

// Claim is one public address that an app asks for.
type Claim struct {
	App      string
	Frontend Frontend
	Private  uint16
	Process  string
	// Options are those that the claim itself gives.
	Options Options
	// File and Line say where the app's PORTS asks for it. An operator's claim (`expose:add`) has neither.
	File string
	Line int
	// Mapped are the public ports of the whole mapping that it is a part of. An operator's is taken back as a whole.
	Mapped portsfile.Range
}

// Mapping is the public side of that mapping, as `expose:remove` names it.
func (c Claim) Mapping() string {
	return Mapping{Bind: c.Frontend.IP, Public: c.Mapped}.Listen()
}

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
	listens := make([]Frontend, 0, len(claims))
	for _, c := range claims {
		listens = append(listens, c.Frontend)
	}
	return PublicAddresses(listens)
}

// PublicAddresses writes public addresses shortly: "22, 6000-6010, 127.0.0.1:80".
func PublicAddresses(listens []Frontend) string {
	byIP := make(map[netip.Addr][]portsfile.Range)
	for _, l := range listens {
		byIP[l.IP] = append(byIP[l.IP], portsfile.Range{First: l.Port, Last: l.Port})
	}
	var texts []string
	for _, ip := range slices.SortedFunc(maps.Keys(byIP), netip.Addr.Compare) {
		for _, ports := range portsfile.Join(byIP[ip]) {
			texts = append(texts, Mapping{Bind: ip, Public: ports}.Listen())
		}
	}
	return strings.Join(texts, ", ")
}

// pushed tells whether the claim came with a push, and is not an operator's.
func (c Claim) pushed() bool { return c.File != "" }

func (c Claim) String() string {
	return fmt.Sprintf("%s (%s of %s)", c.Frontend, c.Where(), c.App)
}

// OperatorClaims expands an operator's mapping, one claim for each of its ports.
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
	claims := make([]Claim, 0, m.Public.Len())
	for public, private := range m.Ports() {
		claims = append(claims, Claim{
			App: app, Frontend: Frontend{IP: m.Bind, Port: public}, Private: private, Process: m.Process, Options: m.Options,
			File: file, Line: line, Mapped: m.Public,
		})
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

// Conflict is a claim that can't be granted since another one holds the address.
type Conflict struct {
	Want, Held Claim
}

func (c *Conflict) Error() string {
	want, held := c.Want, c.Held
	if want.App == held.App {
		return fmt.Sprintf("public port %s is asked for twice by %s: by %s (public port %s) and by %s; one of them has to go",
			want.Frontend, want.App, held.Where(), held.Frontend, want.Where())
	}
	free := fmt.Sprintf("take it out of %s of %s and deploy that", held.File, held.App)
	if held.File == "" {
		free = fmt.Sprintf("free it there: dokku expose:remove %s %s", held.App, held.Mapping())
	}
	return fmt.Sprintf("public port %s (%s) belongs to the app %s already (%s, public port %s); use another port, or %s",
		want.Frontend, want.Where(), held.App, held.Where(), held.Frontend, free)
}

// Conflicts are those with what one app holds by one file, or by `expose:add`.
type Conflicts []*Conflict

// ByHolder sorts conflicts by who holds the addresses.
func ByHolder(all []*Conflict) []Conflicts {
	var sorted []Conflicts
	for _, c := range all {
		i := slices.IndexFunc(sorted, func(o Conflicts) bool { return o[0].Held.App == c.Held.App && o[0].Held.File == c.Held.File })
		if i < 0 {
			i = len(sorted)
			sorted = append(sorted, nil)
		}
		sorted[i] = append(sorted[i], c)
	}
	return sorted
}

// Wants are the claims that can't be granted.
func (cs Conflicts) Wants() []Claim {
	claims := make([]Claim, 0, len(cs))
	for _, c := range cs {
		claims = append(claims, c.Want)
	}
	return claims
}

func (cs Conflicts) Error() string {
	if len(cs) == 1 {
		return cs[0].Error()
	}
	var (
		held     []Claim
		mappings []string
		holder   = cs[0].Held
	)
	for _, c := range cs {
		held = append(held, c.Held)
		if m := c.Held.Mapping(); !slices.Contains(mappings, m) {
			mappings = append(mappings, m)
		}
	}
	free := fmt.Sprintf("take them out of %s of %s and deploy that", holder.File, holder.App)
	if holder.File == "" {
		free = fmt.Sprintf("free them there: dokku expose:remove %s %s", holder.App, strings.Join(mappings, " "))
	}
	return fmt.Sprintf("public ports %s (%s) belong to the app %s already (%s, public ports %s); use other ports, or %s",
		PublicPorts(cs.Wants()), whereAll(cs.Wants()), holder.App, whereAll(held), PublicPorts(held), free)
}

// Holders finds who holds which addresses. The zero value is empty and ready for use.
type Holders struct {
	byPort map[uint16][]Claim
}

// Add lets c hold its address.
func (h *Holders) Add(claims ...Claim) {
	if h.byPort == nil {
		h.byPort = make(map[uint16][]Claim)
	}
	for _, c := range claims {
		h.byPort[c.Frontend.Port] = append(h.byPort[c.Frontend.Port], c)
	}
}

// Conflict returns why c can't be had beside what is held, or nil.
func (h *Holders) Conflict(c Claim) *Conflict {
	for _, held := range h.byPort[c.Frontend.Port] {
		if held.Frontend.Overlaps(c.Frontend) {
			return &Conflict{Want: c, Held: held}
		}
	}
	return nil
}
