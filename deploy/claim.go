package deploy

import (
	"fmt"

	"dokku-expose/portsfile"
)

// Claim is one public address that an app asks for.
type Claim struct {
	App     string
	Listen  Listen
	Private uint16
	Process string
	// Where says who asked, for messages: "PORTS line 3", "expose:add".
	Where string
}

func (c Claim) String() string {
	return fmt.Sprintf("%s (%s of %s)", c.Listen, c.Where, c.App)
}

// Claims expands a mapping, one claim for each of its ports.
func Claims(app, where string, m portsfile.Mapping) []Claim {
	claims := make([]Claim, 0, m.Public.Len())
	for public, private := range m.Ports() {
		claims = append(claims, Claim{
			App: app, Listen: Listen{IP: m.Bind, Port: public}, Private: private, Process: m.Process, Where: where,
		})
	}
	return claims
}

// FileClaims expands a whole PORTS file called name.
func FileClaims(app, name string, entries []portsfile.Entry) []Claim {
	var claims []Claim
	for _, e := range entries {
		claims = append(claims, Claims(app, fmt.Sprintf("%s line %d", name, e.Line), e.Mapping)...)
	}
	return claims
}

// Conflict is a claim that can't be granted since another one holds the address.
type Conflict struct {
	Want, Held Claim
}

func (c *Conflict) Error() string {
	if c.Want.App == c.Held.App {
		return fmt.Sprintf("public port %s is asked for twice by %s: by %s (public port %s) and by %s; one of them has to go",
			c.Want.Listen, c.Want.App, c.Held.Where, c.Held.Listen, c.Want.Where)
	}
	return fmt.Sprintf("public port %s (%s) belongs to the app %s already (%s, public port %s); free it there first, or use another port",
		c.Want.Listen, c.Want.Where, c.Held.App, c.Held.Where, c.Held.Listen)
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
