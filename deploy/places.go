package deploy

// places are those whose endpoints are to serve. A process type of which none serves where the app's scheduler puts them keeps those
// that serve where the app was before.
func (b *builder) places(a *App) []Place {
	if !a.Pods && a.Left == "" {
		return b.containerPlaces(a)
	}
	own, left := b.containerPlaces(a), b.podPlaces(a)
	if a.Pods {
		own, left = left, own
	}
	return b.unlessServed(a, own, b.unlessServed(a, left, own))
}

// podPlaces are the pods that are ready. Of a process type that has no such pod they are those that may get ready: connections are held
// for them.
func (b *builder) podPlaces(a *App) []Place {
	var ready, others []Place
	for _, c := range b.containersOf(a) {
		p := Place{Process: c.Process, Dyno: c.Dyno, Container: c.ID}
		switch {
		case !c.Pod || c.Leaving:
		case b.serves(a, c):
			ready = append(ready, p)
		default:
			others = append(others, p)
		}
	}
	return b.unlessServed(a, ready, others)
}

// containerPlaces are those of Dokku's CONTAINER files. In the middle of a deploy these are the ones from before it; only a
// process type of which none is alive any more moves on to its new ones early.
func (b *builder) containerPlaces(a *App) []Place {
	if a.Deploying == nil {
		return a.Places
	}
	return b.unlessServed(a, a.Deploying.Before, a.Places)
}

// unlessServed are the places of first whose process type has one that serves there, and those of then of all other process types.
func (b *builder) unlessServed(a *App, first, then []Place) []Place {
	alive := make(map[string]bool)
	for _, p := range first {
		if b.serves(a, b.byID[p.Container]) {
			alive[p.Process] = true
		}
	}
	var places []Place
	for _, p := range first {
		if alive[p.Process] {
			places = append(places, p)
		}
	}
	for _, p := range then {
		if !alive[p.Process] {
			places = append(places, p)
		}
	}
	return places
}
