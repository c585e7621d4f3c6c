package deploy

import (
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
	Listen  Listen
	Private uint16
	Process string
	// Options are those that the claim itself gives.
	Options portsfile.Options
	// File and Line say where the app's PORTS asks for it. An operator's claim (`expose:add`) has neither.
	File string
	Line int
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

// pushed tells whether the claim came with a push, and is not an operator's.
func (c Claim) pushed() bool { return c.File != "" }

func (c Claim) String() string {
	return fmt.Sprintf("%s (%s of %s)", c.Listen, c.Where(), c.App)
}

// OperatorClaims expands an operator's mapping, one claim for each of its ports.
func OperatorClaims(app string, m portsfile.Mapping) []Claim { return expand(app, "", 0, m) }

// FileClaims expands a whole PORTS file called name.
func FileClaims(app, name string, entries []portsfile.Entry) []Claim {
	var claims []Claim
	for _, e := range entries {
		claims = append(claims, expand(app, name, e.Line, e.Mapping)...)
	}
	return claims
}

func expand(app, file string, line int, m portsfile.Mapping) []Claim {
	claims := make([]Claim, 0, m.Public.Len())
	for public, private := range m.Ports() {
		claims = append(claims, Claim{
			App: app, Listen: Listen{IP: m.Bind, Port: public}, Private: private, Process: m.Process, Options: m.Options,
			File: file, Line: line,
		})
	}
	return claims
}

// Conflict is a claim that can't be granted since another one holds the address.
type Conflict struct {
	Want, Held Claim
}

func (c *Conflict) Error() string {
	want, held := c.Want, c.Held
	if want.App == held.App {
		return fmt.Sprintf("public port %s is asked for twice by %s: by %s (public port %s) and by %s; one of them has to go",
			want.Listen, want.App, held.Where(), held.Listen, want.Where())
	}
	free := fmt.Sprintf("take it out of %s of %s and deploy that", held.File, held.App)
	if held.File == "" {
		free = fmt.Sprintf("free it there: dokku expose:remove %s %s", held.App, held.Listen)
	}
	return fmt.Sprintf("public port %s (%s) belongs to the app %s already (%s, public port %s); use another port, or %s",
		want.Listen, want.Where(), held.App, held.Where(), held.Listen, free)
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
		h.byPort[c.Listen.Port] = append(h.byPort[c.Listen.Port], c)
	}
}

// Conflict returns why c can't be had beside what is held, or nil.
func (h *Holders) Conflict(c Claim) *Conflict {
	for _, held := range h.byPort[c.Listen.Port] {
		if held.Listen.Overlaps(c.Listen) {
			return &Conflict{Want: c, Held: held}
		}
	}
	return nil
}
