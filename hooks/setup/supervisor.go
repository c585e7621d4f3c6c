package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/template"

	"github.com/google/renameio/v2"

	"dokku-expose/templates"
)

// supervisor is the host's service manager: it keeps our HAProxy running.
type supervisor interface {
	// install writes the service's files where they differ. A service that is new is started, once there is a valid
	// configuration; one that runs is never restarted.
	install(ctx context.Context) error
	running(ctx context.Context) (bool, error)
	// remove stops the service and removes its files.
	remove(ctx context.Context) error
	// startCommand is what an operator types.
	startCommand() string
}

func (s *setup) supervisor() supervisor {
	if s.InitSystem == "sv" {
		return runit{s}
	}
	// As sd_booted(3) tells it.
	if info, err := os.Stat("/run/systemd/system"); err == nil && info.IsDir() {
		return systemd{s}
	}
	return none{s}
}

// none is a host without a service manager that we know.
type none struct{ *setup }

func (n none) install(ctx context.Context) error {
	running, err := n.running(ctx)
	if err != nil || running {
		return err
	}
	n.say("Neither systemd nor runit (DOKKU_INIT_SYSTEM=sv) runs here: let your service manager keep this running: %s", n.startCommand())
	return nil
}

// running looks for the master's socket: there is nobody to ask.
func (n none) running(context.Context) (bool, error) {
	switch _, err := os.Stat(RunDir); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}

func (n none) remove(context.Context) error { return nil }

func (n none) startCommand() string {
	return fmt.Sprintf("install -d -m 750 -o %s -g %s %s && setpriv --reuid %s --regid %s --init-groups "+
		"--inh-caps -all,+net_bind_service --ambient-caps -all,+net_bind_service %s run-haproxy",
		Account, Account, RunDir, Account, Account, Binary)
}

// render fills in a service's template.
func (s *setup) render(name string) ([]byte, error) {
	t, err := template.New(filepath.Base(name)).Option("missingkey=error").ParseFS(templates.Services, name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]string{
		"Binary":     Binary,
		"Account":    Account,
		"RunDir":     RunDir,
		"User":       s.User,
		"Group":      s.Group,
		"DokkuRoot":  s.DokkuRoot,
		"LibRoot":    s.LibRoot,
		"DockerHost": s.DockerHost,
	})
	return out.Bytes(), err
}

// replace writes a file, by renaming, if it differs.
func replace(path string, content []byte, mode fs.FileMode) (changed bool, err error) {
	if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, content) {
		return false, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, renameio.WriteFile(path, content, mode)
}
