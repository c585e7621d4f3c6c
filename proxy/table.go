package proxy

import (
	"fmt"
	"slices"

	"dokku-expose/deploy"
)

// provenTable is the table in force, with what has been learned of its servers since. mu is held.
func (s *Server) provenTable() deploy.Table {
	t := s.table
	t.Routes = slices.Clone(t.Routes)
	for i := range t.Routes {
		spec := &t.Routes[i]
		spec.Servers = slices.Clone(spec.Servers)
		up := s.route(*spec).observe(false).Addresses(true)
		for j := range spec.Servers {
			spec.Servers[j].Proven = slices.Contains(up, spec.Servers[j].Addr)
		}
	}
	return t
}

// CheckTable refuses a table that is invalid: a value out of range, or frontends that overlap.
func CheckTable(t deploy.Table) error {
	var holders deploy.Holders
	if t.TotalConnections < 0 {
		return fmt.Errorf("invalid limit of %d connections", t.TotalConnections)
	}
	for _, r := range t.Routes {
		if r.App == "" || r.Key.Port == 0 || r.Hold < 0 || r.HealthCheck < 0 || r.CutOld < 0 || !r.Options.Valid() {
			return fmt.Errorf("invalid route to %q at public port %s", r.App, r.Key)
		}
		for _, s := range r.Servers {
			if !s.Addr.IsValid() || s.Addr.Port() == 0 {
				return fmt.Errorf("%s: public port %s: invalid address %q of %s", r.App, r.Key, s.Addr, s.Dyno)
			}
		}
		claim := deploy.Claim{App: r.App, Key: r.Key, Options: r.Options}
		if conflict := holders.Conflict(claim); conflict != nil {
			return fmt.Errorf("public port %s of %s overlaps %s of %s", r.Key, r.App, conflict.Held.Key, conflict.Held.App)
		}
		holders.Add(claim)
	}
	return nil
}
