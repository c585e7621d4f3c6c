// Package state keeps the little that dokku-expose must remember of each app and that nothing else tells: which PORTS
// belongs to which image, which of them is in force, whether an operator stopped the app, and the deploy that is on its
// way. One JSON file an app, always written whole and atomically, only by a holder of the host-wide lock.
//
// It knows nothing of containers or routes: what can be read from Docker, Dokku or the engine is read there.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"dokku-expose/hooks/dokku"
	"dokku-expose/portsfile"
)

// Ports is a PORTS file as it was read for an image.
type Ports struct {
	// File is its name, for messages: "PORTS".
	File string `json:"file"`
	// Text is its content; "" is no mapping.
	Text string `json:"text"`
}

// App is what is remembered of an app. The zero value is an app of which nothing is.
type App struct {
	// Current is the id of the image whose PORTS is in force.
	Current string `json:"current,omitempty"`
	// Images holds the PORTS of each image that has a container or may get one, by image id.
	Images map[string]Ports `json:"images,omitempty"`
	// Stopped tells that an operator stopped the app.
	Stopped bool `json:"stopped,omitempty"`
	// Stopping is the command that is about to stop the app's containers, nil when none is. One that has died is over; Load
	// leaves it out.
	Stopping *dokku.Process `json:"stopping,omitempty"`
	// Deploy is nil when none is on its way. One whose process has died is over; Load leaves it out.
	Deploy *Deploy `json:"deploy,omitempty"`
}

// empty tells whether there is nothing worth remembering.
func (a App) empty() bool {
	for _, ports := range a.Images {
		if ports.Text != "" {
			return false
		}
	}
	return a.Deploy == nil && !a.Stopped && a.Stopping == nil
}

// Store is the folder of the state files.
type Store struct {
	Dir string
}

func (s Store) path(app string) (string, error) {
	if err := dokku.ValidName(app); err != nil {
		return "", err
	}
	return filepath.Join(s.Dir, app+".json"), nil
}

// Apps returns the names of all apps of which something is remembered.
func (s Store) Apps() ([]string, error) { return dokku.FilesOfApps(s.Dir, ".json") }

// Known tells, at the cost of one system call, whether anything is remembered of the app.
func (s Store) Known(app string) bool {
	path, err := s.path(app)
	if err != nil {
		return false
	}
	_, err = os.Stat(path)
	return err == nil
}

// Load reads what is remembered of an app; nothing is no error. A deploy whose process has died is left out.
func (s Store) Load(app string) (App, error) {
	path, err := s.path(app)
	if err != nil {
		return App{}, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return App{}, nil
	}
	if err != nil {
		return App{}, err
	}
	var a App
	if err := json.Unmarshal(text, &a); err != nil {
		return App{}, fmt.Errorf("%s: %w; have it written anew: rm %s && dokku ps:rebuild %s", path, err, path, app)
	}
	if a.Deploy != nil && !a.Deploy.Process.Alive() {
		a.Deploy = nil
	}
	if a.Stopping != nil && !a.Stopping.Alive() {
		a.Stopping = nil
	}
	return a, nil
}

// MayClaim returns the ports that an app may have by what is remembered of it, where its file is so broken that nobody can tell.
// known is false where not even that can be told.
func (s Store) MayClaim(app string) (ports []portsfile.Range, known bool) {
	if _, err := s.Load(app); err == nil {
		return nil, true
	}
	path, err := s.path(app)
	if err != nil {
		return nil, false
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, false
	}
	// Nobody writes such a file by hand: one without any port has lost them.
	ports = portsfile.Mentioned(string(text))
	return ports, len(ports) > 0
}

// Save writes what is to be remembered of an app, and removes the file when that is nothing.
func (s Store) Save(app string, a App) error {
	path, err := s.path(app)
	if err != nil {
		return err
	}
	if a.empty() {
		return s.Remove(app)
	}
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	if err := renameio.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return s.sync()
}

// Remove forgets an app.
func (s Store) Remove(app string) error {
	path, err := s.path(app)
	if err != nil {
		return err
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.sync()
}

// sync makes a change of the folder's names last through a crash.
func (s Store) sync() (err error) {
	dir, err := os.Open(s.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	return dir.Sync()
}

// Rename hands what is remembered of an app over to its new name. The new app is not stopped and has no deploy yet. What can't be read
// or written anew is handed over as it is.
func (s Store) Rename(from, to string) error {
	a, err := s.Load(from)
	if err == nil {
		a.Stopped, a.Stopping, a.Deploy = false, nil, nil
		if err = s.Save(to, a); err == nil {
			return s.Remove(from)
		}
	}
	old, err := s.path(from)
	if err != nil {
		return err
	}
	path, err := s.path(to)
	if err != nil {
		return err
	}
	if err := os.Rename(old, path); err != nil {
		return err
	}
	return s.sync()
}
