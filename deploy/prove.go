package deploy

import "slices"

// prove finds the address of each server that accepts connections, by the evidence, and returns the targets that it lacks evidence of.
// A server that the engine serves already is left to the engine's own checks: asking it again could only take away what works. Where a
// server does not accept, those that the engine serves in its stead are asked as well.
func (b *builder) prove(drafts []*draft) (ask []Target) {
	ask = b.withoutEvidence(drafts, func(d *draft) (targets []Target) {
		for _, s := range d.servers {
			if !b.served(d, s) {
				targets = append(targets, d.targets[s.Container]...)
			}
		}
		return targets
	})
	if len(ask) > 0 {
		return ask
	}
	for _, d := range drafts {
		for i, s := range d.servers {
			targets := d.targets[s.Container]
			if at := slices.IndexFunc(targets, func(t Target) bool { return b.evidence.accepts(t.Address()) }); at >= 0 && !b.proven(d, s) {
				d.servers[i] = serverAt(s.Container, s.Dyno, targets[at])
			}
		}
	}
	return b.withoutEvidence(drafts, func(d *draft) (targets []Target) {
		if slices.ContainsFunc(d.servers, func(s Server) bool { return !b.proven(d, s) }) {
			d.kept = slices.DeleteFunc(b.stillOwn(d.app, b.serving[d.claim.Key]), func(k Server) bool {
				return slices.ContainsFunc(d.servers, func(s Server) bool { return s.Addr == k.Addr })
			})
		}
		for _, k := range d.kept {
			targets = append(targets, Target{d.claim.Key.Proto, k.Addr, k.Published})
		}
		return targets
	})
}

// withoutEvidence are the targets that list names and of which there is none, each once, but those of routes that are not to be asked.
func (b *builder) withoutEvidence(drafts []*draft, list func(*draft) []Target) (ask []Target) {
	told := make(map[Address]bool)
	for _, d := range drafts {
		if d.unchecked() || b.trust(d.app) != Fresh {
			continue
		}
		for _, t := range list(d) {
			if _, asked := b.evidence[t.Address()]; asked || told[t.Address()] {
				continue
			}
			told[t.Address()] = true
			// An app without checks wants no connection made for one: Docker's proxy has to do.
			t.Published = t.Published && d.app.HealthCheck > 0
			ask = append(ask, t)
		}
	}
	return ask
}

func (b *builder) served(d *draft, s Server) bool {
	service := b.serving[d.claim.Key]
	return d.app.goesBy(service.App) && service.serves(s.Addr)
}

// leads tells whether the engine leads the route to the server, if only as soon as that accepts.
func (b *builder) leads(d *draft, s Server) bool {
	service := b.serving[d.claim.Key]
	return service.App == d.app.Name && slices.Contains(service.All(), s.Addr)
}

// proven tells whether a server may get connections. For one that is not to be asked Docker's word has to do.
func (b *builder) proven(d *draft, s Server) bool {
	return d.unchecked() || b.served(d, s) || b.evidence.accepts(d.address(s))
}

// address is where the server is asked.
func (d *draft) address(s Server) Address { return Address{d.claim.Key.Proto, s.Addr} }

// unchecked tells that nobody may connect to the servers but for a client.
func (d *draft) unchecked() bool { return d.options.Check == NoCheck }
