package hooks

import (
	"context"
	"fmt"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/portsfile"
)

// admitUnreadable looks for addresses that may be those of apps whose own files can't be read: what is served for them, and
// what these files may ask for. Nobody knows what is theirs, but it must not become another app's for that.
func (h *Host) admitUnreadable(ctx context.Context, app string, apps []deploy.App, claims []deploy.Claim, note func(deploy.Claim, error)) error {
	unreadable := make(map[string]error)
	own := make(map[deploy.Listen]bool)
	for _, a := range apps {
		switch {
		case a.Name == app:
			// What is in force for the app is nobody else's.
			for _, c := range append(slices.Clone(a.Operator), a.Images[a.Current]...) {
				own[c.Listen] = true
			}
		case a.Err != nil:
			unreadable[a.Name] = a.Err
		}
	}
	if len(unreadable) == 0 {
		return nil
	}
	_, serving, err := h.serving(ctx)
	if err != nil {
		return err
	}
	served := make(map[string]bool)
	for listen, service := range serving {
		reason := unreadable[service.App]
		if reason == nil {
			continue
		}
		served[service.App] = true
		for _, c := range claims {
			if c.Listen.Overlaps(listen) {
				note(c, fmt.Errorf("public port %s (%s) leads to the app %s; use another port, or mend that app, which can't be asked whether it gives it up: %w",
					c.Listen, c.Where(), service.App, reason))
			}
		}
	}
	for name, reason := range unreadable {
		ports, known := h.mayClaim(name)
		for _, c := range claims {
			switch {
			case own[c.Listen]:
			case slices.ContainsFunc(ports, func(r portsfile.Range) bool { return r.Contains(c.Listen.Port) }), !known && !served[name]:
				note(c, fmt.Errorf("public port %s (%s) may be one of the app %s, which can't be told; use another port, or mend that app: %w",
					c.Listen, c.Where(), name, reason))
			}
		}
	}
	return nil
}

// mayClaim returns the ports that an app may have by those of its files that can't be read. known is false where not even that
// can be told.
func (h *Host) mayClaim(app string) (ports []portsfile.Range, known bool) {
	set, setKnown := h.settings.MayMap(app)
	remembered, rememberedKnown := h.state.MayClaim(app)
	ports = append(set, remembered...)
	// A PORTS that this version of the plugin can't parse.
	state, _ := h.state.Load(app)
	texts := []string{state.Images[state.Current].Text}
	if state.Deploy != nil && state.Deploy.Pending != nil {
		texts = append(texts, state.Deploy.Pending.Text)
	}
	for _, text := range texts {
		if _, err := deploy.ParsePorts("", text); err != nil {
			ports = append(ports, portsfile.Mentioned(text)...)
		}
	}
	return ports, setKnown && rememberedKnown
}
