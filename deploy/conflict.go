package deploy

import (
	"fmt"
	"slices"
	"strings"
)

// Conflict is a claim that can't be granted since another one holds the address.
type Conflict struct {
	Want, Held Claim
}

func (c *Conflict) Error() string {
	want, held := c.Want, c.Held
	if want.App == held.App {
		return fmt.Sprintf("public port %s is asked for twice by %s: by %s (public port %s) and by %s; one of them has to go",
			want.Key, want.App, held.Where(), held.Key, want.Where())
	}
	free := fmt.Sprintf("take it out of %s of %s and deploy that", held.File, held.App)
	if held.File == "" {
		free = fmt.Sprintf("free it there: dokku expose:remove %s %s", held.App, held.Mapping())
	}
	return fmt.Sprintf("public port %s (%s) belongs to the app %s already (%s, public port %s); use another port, or %s",
		want.Key, want.Where(), held.App, held.Where(), held.Key, free)
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
		h.byPort[c.Key.Port] = append(h.byPort[c.Key.Port], c)
	}
}

// Conflict returns why c can't be had beside what is held, or nil.
func (h *Holders) Conflict(c Claim) *Conflict {
	for _, held := range h.byPort[c.Key.Port] {
		if held.Key.Frontend().Overlaps(c.Key.Frontend()) {
			return &Conflict{Want: c, Held: held}
		}
	}
	return nil
}
