package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"dokku-expose/deploy"
	"dokku-expose/deploy/docker"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
	"dokku-expose/portsfile"
)

// preBuild reads PORTS from the source tree of a deploy. What is wrong with it stops the push here, with nothing built
// and nothing changed.
//
// It is not post-extract, which comes a moment earlier: Dokku (0.38.27, git_trigger_build) goes on whatever that says,
// since bash ignores `set -e` in what git_receive_app calls behind `||`.
//
//	pre-build BUILDER APP SOURCE_DIR
func preBuild(ctx context.Context, h *Host, args []string) error {
	app, dir := args[1], args[2]
	values, err := h.settings.Effective(app)
	if err != nil {
		return h.unlessIdle(app, dir, err)
	}
	ports := state.Ports{File: values.PortsFile}
	if values.PortsFile == settings.IgnorePorts {
		// A clone gets the setting by itself, and its PORTS may be one of its own by now.
		if _, err := readSource(dir, defaultPortsFile); err == nil {
			h.out.Step("The file %s of %s is ignored, as the setting ports-file says; to have it read: dokku expose:set %s ports-file %s",
				defaultPortsFile, app, app, defaultPortsFile)
		}
	} else {
		text, missing := readSource(dir, values.PortsFile)
		switch {
		case errors.Is(missing, fs.ErrNotExist):
			fromImage, err := h.env.FromImage(app, dir)
			if err != nil {
				return err
			}
			if fromImage != "" {
				// This tree is a Dockerfile of Dokku's; the app's own files are in the image.
				return h.expectImage(ctx, app)
			}
			if involved, err := h.involved(app); !involved {
				return err
			}
			if errors.Is(missing, errFolder) {
				h.out.Warn("%s: %s is a folder, so the app has no PORTS file; another path for it: dokku expose:set %s ports-file PATH", app, values.PortsFile, app)
			}
		case missing != nil:
			return missing
		}
		ports.Text = string(text)
	}
	scheduler, err := h.env.Scheduler(app)
	if err != nil {
		return err
	}
	if scheduler != dokku.DockerLocal {
		if ports.Text != "" {
			h.out.Warn("%s: %s is left alone: public ports need the scheduler %s, and the app is on %s", app, ports.File, dokku.DockerLocal, scheduler)
		}
		return nil
	}
	return h.stage(ctx, app, ports, "")
}

// expectImage notes that a deploy is on its way whose PORTS is in its image.
func (h *Host) expectImage(ctx context.Context, app string) error {
	return h.underLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		remembered, err := h.state.Load(app)
		if err != nil {
			return err
		}
		if err := h.begin(app, &remembered); err != nil {
			return err
		}
		remembered.Deploy.FromImage = true
		return h.state.Save(app, remembered)
	})
}

// defaultPortsFile is the name of the file where no setting says another one.
const defaultPortsFile = "PORTS"

// unlessIdle is err for an app that has, or asks for, public ports, and nil for all others: what is wrong with the
// plugin's own settings must not stop the deploys of apps that don't use it.
func (h *Host) unlessIdle(app, dir string, err error) error {
	if _, statErr := readSource(dir, defaultPortsFile); errors.Is(statErr, fs.ErrNotExist) && !h.concerns(app) {
		return nil
	}
	return err
}

// stage checks what a deploy asks for and keeps it with the deploy, for image once that is known.
func (h *Host) stage(ctx context.Context, app string, ports state.Ports, image string) error {
	return h.underLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		if err := h.admitPorts(ctx, app, ports); err != nil {
			return err
		}
		remembered, err := h.state.Load(app)
		if err != nil {
			return err
		}
		if err := h.begin(app, &remembered); err != nil {
			return err
		}
		remembered.Deploy.Pending, remembered.Deploy.Image = &ports, image
		if image != "" {
			remembered.PutImage(image, ports)
		}
		return h.state.Save(app, remembered)
	})
}

// admitPorts checks the whole of what an app will ask for once ports is its PORTS.
func (h *Host) admitPorts(ctx context.Context, app string, ports state.Ports) error {
	entries, wrong := deploy.ParsePorts(ports.File, ports.Text)
	if wrong != nil {
		wrong = withOtherUse(app, ports.File, entries, wrong)
	}
	// Lines that are right may ask for what the app can't have: all of it is told at once.
	claims := deploy.FileClaims(app, ports.File, entries)
	operator, err := h.operatorClaims(app)
	if err != nil {
		return errors.Join(wrong, err)
	}
	processes, known, err := h.env.DeployedProcesses(app)
	if err != nil {
		return errors.Join(wrong, err)
	}
	if known {
		wrong = errors.Join(wrong, deploy.UnknownProcesses(claims, processes))
	}
	all := append(claims, operator...)
	if err := errors.Join(wrong, selfConflicts(claims, operator), h.admit(ctx, app, all)); err != nil {
		return err
	}
	h.warnUnreserved(all)
	return nil
}

// withOtherUse adds how a file is left alone that is called PORTS and means something else, where that may be so.
func withOtherUse(app, file string, entries []deploy.Entry, wrong error) error {
	var list portsfile.ErrorList
	other := len(entries) == 0
	if errors.As(wrong, &list) {
		other = other || slices.ContainsFunc(list, func(e *portsfile.Error) bool { return e.Like != "" })
	}
	if !other {
		return wrong
	}
	return fmt.Errorf("%w\nif %s is no list of public ports, have it left alone: dokku expose:set %s ports-file %s", wrong, file, app, settings.IgnorePorts)
}

// selfConflicts tells where the repository and the operator ask for the same.
func selfConflicts(claims, operator []deploy.Claim) error {
	var (
		holders deploy.Holders
		errs    []error
	)
	holders.Add(operator...)
	for _, c := range claims {
		if conflict := holders.Conflict(c); conflict != nil {
			errs = append(errs, fmt.Errorf("%w: dokku expose:remove %s %s", conflict, c.App, conflict.Held.Mapping()))
		}
	}
	return errors.Join(errs...)
}

func (h *Host) operatorClaims(app string) ([]deploy.Claim, error) {
	set, err := h.settings.Load(app)
	return operatorClaims(app, set), err
}

// begin notes that the deploy of this process is on its way, with the containers that are there now.
func (h *Host) begin(app string, remembered *state.App) error {
	process, err := h.env.Deploy()
	if err != nil {
		return err
	}
	if remembered.Deploy != nil && remembered.Deploy.Process == process {
		return nil
	}
	places, err := h.places(app)
	if err != nil {
		return err
	}
	remembered.Deploy = &state.Deploy{Process: process, Before: places}
	return nil
}

// postRelease puts what the deploy brings together with the image that it was built into. A deploy without a source tree
// of the app's (git:from-image, ps:start) finds PORTS in the image; ps:start gives the same source a new image, so that
// without one there the current PORTS stays.
//
//	post-release-builder BUILDER APP IMAGE
func postRelease(ctx context.Context, h *Host, args []string) error {
	app, ref := args[1], args[2]
	// The image has told Dokku by now which ports its proxy is to map; the proxy has not been told yet.
	if err := h.admitProxyOf(ctx, app); err != nil {
		return err
	}
	if !h.state.Known(app) {
		return nil
	}
	if local, err := h.local(app); !local {
		return err
	}
	remembered, err := h.state.Load(app)
	if err != nil {
		return err
	}
	process, err := h.env.Deploy()
	if err != nil {
		return err
	}
	client, err := h.docker()
	if err != nil {
		return err
	}
	image, err := client.ImageID(ctx, ref)
	if err != nil {
		return err
	}
	d := remembered.Deploy
	if d == nil || d.Process != process {
		d = &state.Deploy{}
	}
	if d.Pending != nil {
		return h.stage(ctx, app, *d.Pending, image)
	}
	ports, known := remembered.Images[image]
	if !known {
		var found bool
		if ports, found, err = h.imagePorts(ctx, client, app, image); err != nil {
			return err
		}
		if !found && !d.FromImage {
			ports = remembered.Images[remembered.Current]
		}
	}
	return h.stage(ctx, app, ports, image)
}

// imagePorts reads PORTS out of an image: /app/PORTS, where buildpacks put an app, else the one in the folder that the
// image works in.
func (h *Host) imagePorts(ctx context.Context, client *docker.Client, app, image string) (ports state.Ports, found bool, err error) {
	values, err := h.settings.Effective(app)
	if err != nil {
		return state.Ports{}, false, err
	}
	none := state.Ports{File: values.PortsFile}
	if values.PortsFile == settings.IgnorePorts {
		return none, true, nil
	}
	workDir, err := client.WorkDir(ctx, image)
	if err != nil {
		return none, false, err
	}
	var paths []string
	for _, folder := range []string{"/app", workDir} {
		if file := path.Join(folder, values.PortsFile); !slices.Contains(paths, file) {
			paths = append(paths, file)
		}
	}
	name, text, err := client.ReadFile(ctx, image, paths, portsfile.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return none, false, nil
	}
	// What was pushed has the name that it has in the repository, in whichever way it is read.
	source, sourceErr := h.env.SourceImage(app)
	if source == "" {
		name = values.PortsFile
	}
	err = errors.Join(err, sourceErr)
	return state.Ports{File: name, Text: string(text)}, err == nil, err
}

// dockerArgs notes that a deploy has begun, and publishes the private ports where containers can't be reached directly.
//
//	docker-args-process-deploy APP SOURCE_TYPE IMAGE_TAG PROC [INDEX]
func dockerArgs(ctx context.Context, h *Host, args []string) error {
	app, tag, process := args[0], args[2], args[3]
	if _, err := io.Copy(h.stdout, h.stdin); err != nil {
		return err
	}
	if local, err := h.local(app); !local {
		return err
	}
	var claims []deploy.Claim
	err := h.underLock(ctx, func(ctx context.Context, _ *deploy.Lock) error {
		remembered, err := h.state.Load(app)
		if err != nil {
			return err
		}
		if err := h.begin(app, &remembered); err != nil {
			return err
		}
		ports, image := h.portsOfDeploy(ctx, app, remembered, tag)
		if err := h.admitUnstaged(ctx, app, &remembered, image); err != nil {
			return err
		}
		if err := h.state.Save(app, remembered); err != nil {
			return err
		}
		claims, err = h.claimsWith(app, ports)
		return err
	})
	if err != nil {
		return err
	}
	values, err := h.settings.Effective(app)
	if err != nil || values.Upstream != deploy.UpstreamPublished {
		return err
	}
	var ports []uint16
	for _, c := range claims {
		if c.Process == process {
			ports = append(ports, c.Private)
		}
	}
	slices.Sort(ports)
	var b strings.Builder
	for _, port := range slices.Compact(ports) {
		fmt.Fprintf(&b, " -p 127.0.0.1::%d", port)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	_, err = io.WriteString(h.stdout, b.String())
	return err
}

// portsOfDeploy is the PORTS that the containers of the deploy on its way will serve, and the image that it belongs to, "" where
// the current one's is taken for want of a better: the name of an image in a registry is not known here.
func (h *Host) portsOfDeploy(ctx context.Context, app string, remembered state.App, tag string) (ports state.Ports, image string) {
	if d := remembered.Deploy; d != nil && d.Pending != nil {
		return *d.Pending, ""
	}
	if client, err := h.docker(); err == nil {
		if image, err := client.ImageID(ctx, "dokku/"+app+":"+tag); err == nil {
			if ports, known := remembered.Images[image]; known {
				return ports, image
			}
		}
	}
	return remembered.Images[remembered.Current], ""
}

// brought is the image that a deploy brings back of which nobody has told yet: the one that has the app's name, if its PORTS
// never came into force. It is "" where there is none.
func (h *Host) brought(ctx context.Context, client *docker.Client, app string, remembered state.App) (string, error) {
	for image := range remembered.Images {
		if image == remembered.Current {
			continue
		}
		if named, err := client.HasName(ctx, image, "dokku/"+app); named || err != nil {
			return image, err
		}
	}
	return "", nil
}

// admitUnstaged checks what a deploy asks for that brings back the PORTS of an image which never came into force (ps:restart
// after a push that failed): meanwhile another app may have got what it claims. From here on it is held for the deploy. What
// this deploy has staged, and what is in force, was admitted before. The caller holds the lock, and writes remembered down.
func (h *Host) admitUnstaged(ctx context.Context, app string, remembered *state.App, image string) error {
	ports, known := remembered.Images[image]
	if d := remembered.Deploy; !known || image == remembered.Current || d != nil && d.Pending != nil {
		return nil
	}
	if err := h.admitPorts(ctx, app, ports); err != nil {
		return err
	}
	if remembered.Deploy != nil {
		remembered.Deploy.Pending = &ports
	}
	return nil
}

// claimsWith are the claims of the operator and of a PORTS.
func (h *Host) claimsWith(app string, ports state.Ports) ([]deploy.Claim, error) {
	operator, err := h.operatorClaims(app)
	if err != nil {
		return nil, err
	}
	own, err := claimsOf(app, ports)
	return append(operator, own...), err
}
