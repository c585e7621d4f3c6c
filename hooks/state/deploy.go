package state

import (
	"maps"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
)

// Phase is how far a deploy has come.
//
//	from            to        by
//	none            Begun     the first trigger of a deploy that changes anything
//	Begun           Staged    pre-build, with the PORTS of the source tree, once it is admitted
//	Begun, Staged   Built     post-release-builder, or the first trigger that meets a PORTS which never came into force
//	any             none      post-deploy, which makes the switch: the deploy is in force
//	any             none      the end of the deploy's process: it has failed
//
// A container passes the gate (check-deploy) by itself, and may in any phase: that is not remembered.
type Phase int

const (
	// None: no deploy is on its way.
	None Phase = iota
	// Begun: nothing is known yet of what it brings.
	Begun
	// Staged: its PORTS was admitted and is held for it; its image is not built yet.
	Staged
	// Built: its PORTS belongs to an image.
	Built
)

// Deploy is a deploy on its way.
type Deploy struct {
	// Process is the one that makes the deploy: when it is gone, so is the deploy.
	Process dokku.Process `json:"process"`
	// Before are the app's places when the deploy began.
	Before []deploy.Place `json:"before,omitempty"`
	// Former is the app's name when the containers of Before were created, "" for the same one: see deploy.Deployment.
	Former string `json:"former,omitempty"`
	// Retired are containers that Dokku is about to stop.
	Retired []string `json:"retired,omitempty"`
	// Unserved is how many connections to the app had been closed for want of a container before the first of those was stopped.
	Unserved uint64 `json:"unserved,omitempty"`
	// FromImage tells that the app's own files are in the image only (git:from-image).
	FromImage bool `json:"from_image,omitempty"`
	// Pending is what the deploy's source tree or image brought, nil while nothing was read.
	Pending *Ports `json:"pending,omitempty"`
	// Image is the id of the image that Pending belongs to, "" before it is built.
	Image string `json:"image,omitempty"`
}

// Phase is that of the deploy on its way.
func (a App) Phase() Phase {
	switch d := a.Deploy; {
	case d == nil:
		return None
	case d.Pending == nil:
		return Begun
	case d.Image == "":
		return Staged
	}
	return Built
}

// Begin notes that the deploy of a process is on its way, in the place of any other. before returns the app's places, which are asked for
// once.
func (a *App) Begin(process dokku.Process, before func() ([]deploy.Place, error)) error {
	if a.Deploy != nil && a.Deploy.Process == process {
		return nil
	}
	places, err := before()
	if err == nil {
		a.Deploy = &Deploy{Process: process, Before: places}
	}
	return err
}

// Stage holds an admitted PORTS for the deploy on its way.
func (a *App) Stage(ports Ports) { a.Deploy.Pending, a.Deploy.Image = &ports, "" }

// Build gives the staged PORTS to the image that was built with it.
func (a *App) Build(image string) {
	a.Deploy.Image = image
	images := maps.Clone(a.Images)
	if images == nil {
		images = make(map[string]Ports)
	}
	images[image] = *a.Deploy.Pending
	a.Images = images
}

// Retire notes that Dokku is about to stop a container. unserved counts the connections that were closed for want of a container before the
// first of them.
func (a *App) Retire(container string, unserved func() uint64) {
	if len(a.Deploy.Retired) == 0 {
		a.Deploy.Unserved = unserved()
	}
	a.Deploy.Retired = append(a.Deploy.Retired, container)
}

// Switched is the app once the deploy on its way has ended well. current is the image of the containers that are deployed now, "" where none
// tells; used are the images that have a container still.
func (a App) Switched(current string, used map[string]bool) App {
	after := App{Current: a.Current, Images: make(map[string]Ports)}
	if current != "" {
		after.Current = current
	}
	for image, ports := range a.Images {
		if used[image] || image == after.Current {
			after.Images[image] = ports
		}
	}
	return after
}
