package deploy

import (
	"fmt"
	"slices"
	"strings"
)

// Conflict is a claim that can't be granted since another one holds the address.
type Conflict struct {
	Want, Held Claim
	// Why says why the two can't share the address by their server names, nil where that goes without saying.
	Why error
}

func (c *Conflict) Error() string {
	want, held := c.Want, c.Held
	if want.App == held.App {
		return fmt.Sprintf("public port %s is asked for twice by %s: by %s (public port %s) and by %s; one of them has to go%s",
			want.Key, want.App, held.Where(), held.Key, want.Where(), c.sharing())
	}
	free := fmt.Sprintf("take it out of %s of %s and deploy that", held.File, held.App)
	if held.File == "" {
		free = fmt.Sprintf("free it there: dokku expose:remove %s %s", held.App, held.Mapping())
	}
	return fmt.Sprintf("public port %s (%s) belongs to the app %s already (%s, public port %s); use another port, or %s%s",
		want.Key, want.Where(), held.App, held.Where(), held.Key, free, c.sharing())
}

// sharing is what else there is to do: the two may share the address.
func (c *Conflict) sharing() string {
	if c.Why == nil {
		return ""
	}
	return "; " + c.Why.Error()
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
	return fmt.Sprintf("public ports %s (%s) belong to the app %s already (%s, public ports %s); use other ports, or %s%s",
		PublicPorts(cs.Wants()), whereAll(cs.Wants()), holder.App, whereAll(held), PublicPorts(held), free, cs[0].sharing())
}

// Holders finds who holds which addresses. The zero value is empty and ready for use.
type Holders struct {
	byPort map[uint16][]*holding
}

// holding is who holds a frontend: the first one, and who has each server name.
type holding struct {
	first  Claim
	byName map[string]Claim
}

// Add lets c hold its address. Options are those that its routes have, the operator's settings included.
func (h *Holders) Add(claims ...Claim) {
	if h.byPort == nil {
		h.byPort = make(map[uint16][]*holding)
	}
	for _, c := range claims {
		port := c.Key.Port
		i := slices.IndexFunc(h.byPort[port], func(held *holding) bool { return held.first.Key.Frontend() == c.Key.Frontend() })
		if i < 0 {
			i = len(h.byPort[port])
			h.byPort[port] = append(h.byPort[port], &holding{c, make(map[string]Claim)})
		}
		byName := h.byPort[port][i].byName
		if _, taken := byName[c.Key.ServerName]; !taken {
			byName[c.Key.ServerName] = c
		}
	}
}

// Conflict returns why c can't be had beside what is held, or nil.
func (h *Holders) Conflict(c Claim) *Conflict {
	for _, held := range h.byPort[c.Key.Port] {
		if held.first.Key.Frontend() != c.Key.Frontend() {
			if held.first.Key.Frontend().Overlaps(c.Key.Frontend()) {
				return &Conflict{Want: c, Held: held.first}
			}
			continue
		}
		// The name says more than the first one there.
		if same, taken := held.byName[c.Key.ServerName]; taken {
			return &Conflict{Want: c, Held: same}
		}
		if why := c.Options.Beside(held.first.Options); why != nil {
			return &Conflict{Want: c, Held: held.first, Why: why}
		}
	}
	return nil
}
