package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"text/template"

	"github.com/google/renameio/v2"

	"dokku-expose/hooks/dokku"
	"dokku-expose/templates"
)

// service is a process that is kept running.
type service struct {
	// name is that of the systemd unit, of the runit service and of their templates.
	name string
	// haproxy tells that it is HAProxy's: it starts with a valid configuration only.
	haproxy bool
	// restartable tells that no connection ends with a restart of it.
	restartable bool
}

// services in the order in which they start.
var services = []service{
	{name: "dokku-expose-haproxy", haproxy: true},
	{name: "dokku-expose", restartable: true},
}

// supervisor is the host's service manager.
type supervisor interface {
	// install writes the service's files where they differ. A service that is new is started; one that runs is restarted only
	// when it may be.
	install(ctx context.Context, svc service) error
	running(ctx context.Context, svc service) (bool, error)
	restart(ctx context.Context, svc service) error
	// remove stops the service and removes its files.
	remove(ctx context.Context, svc service) error
	// startCommand is what an operator types.
	startCommand(svc service) string
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

// beforeFirstStart makes sure of a valid configuration. The service prepares one too, but starts with an old one when that
// fails; here the error shall reach the operator.
func (s *setup) beforeFirstStart(ctx context.Context, svc service) error {
	if !svc.haproxy {
		return nil
	}
	return s.asDokku(ctx, "prepare")
}

// none is a host without a service manager that we know: whoever runs it starts the services.
type none struct{ *setup }

func (n none) install(ctx context.Context, svc service) error {
	if svc.haproxy {
		config := filepath.Join(n.LibRoot, "data", dokku.Plugin, "haproxy", "haproxy.cfg")
		if _, err := os.Stat(config); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := n.beforeFirstStart(ctx, svc); err != nil {
			return err
		}
	} else if running, err := n.running(ctx, svc); running || err != nil {
		return err
	}
	n.say("Neither systemd nor runit (DOKKU_INIT_SYSTEM=sv) runs here. Let your service manager keep this running: %s", n.startCommand(svc))
	return nil
}

// running asks whoever listens at the service's socket, for there is nobody else.
func (n none) running(ctx context.Context, svc service) (bool, error) {
	socket := filepath.Join(DaemonRunDir, "control.sock")
	if svc.haproxy {
		socket = filepath.Join(RunDir, "master.sock")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, conn.Close()
}

func (n none) restart(_ context.Context, svc service) error {
	n.say("Restart %s, for its program is a new one: %s", svc.name, n.startCommand(svc))
	return nil
}

// remove can't stop what somebody else keeps running.
func (n none) remove(ctx context.Context, svc service) error {
	running, err := n.running(ctx, svc)
	if running {
		return fmt.Errorf("%s runs still: have your service manager stop it", svc.name)
	}
	return err
}

func (n none) startCommand(svc service) string {
	dir, user, group, command := DaemonRunDir, n.User, n.Group, "daemon"
	if svc.haproxy {
		dir, user, group, command = RunDir, Account, Account, "run-haproxy"
	}
	return fmt.Sprintf("install -d -m 750 -o %s -g %s %s && setpriv --reuid %s --regid %s --init-groups "+
		"--inh-caps -all,+net_bind_service --ambient-caps -all,+net_bind_service %s %s", user, group, dir, user, group, Binary, command)
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
		"DaemonDir":  DaemonRunDir,
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
