package deploy

import (
	"cmp"
	"slices"
)

// Rights to an address, the best first. Claims are checked before they come into force, so that this is for what slipped
// through: files edited by hand, a failed deploy that Dokku kept half of.
const (
	// servedByRight is in force and served. So is all that is served for an app whose files can't be read, or whose source can't be
	// asked.
	servedByRight = iota
	// inForce is in force, but not served.
	inForce
	// served is served, but not in force.
	served
	// wanted is neither: a container has it in the PORTS of its image.
	wanted
)

// settle leaves out drafts whose address another app has a better right to. An app that has no drafts now, since it is stopped,
// or its files can't be read or its source can't be asked, keeps what it has in force; only one that is served there by right is not
// interrupted for that.
func (b *builder) settle(drafts []*draft) []*draft {
	byApp := make(map[*App]map[Key]bool, len(b.apps))
	var absent []Claim
	for i := range b.apps {
		a := &b.apps[i]
		listens := make(map[Key]bool)
		for _, c := range a.Claims() {
			listens[c.Key] = true
		}
		byApp[a] = listens
		if a.Off != "" || a.Err != nil || b.keptAsServed(a) {
			absent = append(absent, a.Effective()...)
		}
	}
	right := func(d *draft) int {
		isServed := b.isServed(d.app, d.claim.Key)
		switch isInForce := byApp[d.app][d.claim.Key]; {
		case isServed && (isInForce || d.app.Err != nil || b.keptAsServed(d.app)):
			return servedByRight
		case isInForce:
			return inForce
		case isServed:
			return served
		}
		return wanted
	}
	rights := make(map[*draft]int, len(drafts))
	for _, d := range drafts {
		rights[d] = right(d)
	}
	slices.SortFunc(drafts, func(x, y *draft) int {
		return cmp.Or(cmp.Compare(rights[x], rights[y]), cmp.Compare(x.app.Name, y.app.Name), x.claim.Key.Compare(y.claim.Key))
	})
	var (
		holders Holders
		settled = drafts[:0]
	)
	for _, d := range drafts {
		if rights[d] > servedByRight {
			holders.Add(absent...)
			absent = nil
		}
		effective := d.claim
		effective.Options = d.options
		if conflict := holders.Conflict(effective); conflict != nil {
			b.problem(d.app.Name, d.claim.Key, conflict)
			continue
		}
		holders.Add(effective)
		settled = append(settled, d)
	}
	return settled
}
