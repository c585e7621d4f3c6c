package host

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"

	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
	"dokku-expose/portsfile"
)

// ImagePorts reads PORTS out of an image: /app/PORTS, where buildpacks put an app, else the one in the folder that the
// image works in.
func (h *Host) ImagePorts(ctx context.Context, app, image string) (ports state.Ports, found bool, err error) {
	values, err := h.Settings.Effective(app)
	if err != nil {
		return state.Ports{}, false, err
	}
	none := state.Ports{File: values.PortsFile}
	if values.PortsFile == settings.IgnorePorts {
		return none, true, nil
	}
	client, err := h.Docker()
	if err != nil {
		return none, false, err
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
	// A pushed file has its name in the repository, in whichever way it is read.
	source, sourceErr := h.Env.SourceImage(app)
	if source == "" {
		name = values.PortsFile
	}
	err = errors.Join(err, sourceErr)
	return state.Ports{File: name, Text: string(text)}, err == nil, err
}
