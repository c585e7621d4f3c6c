package deploy

import "slices"

// places are those whose endpoints are to serve. While an app moves from one scheduler to the other, pods serve where there are any: they
// take over as they get ready, and lose it to containers in one step, the switch at the end of the deploy.
func (b *builder) places(a *App) []Place {
	switch {
	case a.Left == "" && a.Pods:
		return a.withFormer(b.podPlaces(a))
	case a.Left == "":
		return b.containerPlaces(a)
	}
	pods, containers := b.podPlaces(a), b.containerPlaces(a)
	if a.Pods {
		containers = b.unlessServed(a, containers, pods)
	}
	return b.unlessServed(a, pods, containers)
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

// withFormer adds the pods that the app had before the deploy on its way, of process types that have none now: connections are held for
// those to come.
func (a *App) withFormer(places []Place) []Place {
	if a.Deploying == nil {
		return places
	}
	for _, p := range a.Deploying.Before {
		if !slices.ContainsFunc(places, func(o Place) bool { return o.Process == p.Process }) {
			places = append(places, p)
		}
	}
	return places
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
