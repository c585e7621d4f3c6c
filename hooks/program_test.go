package hooks_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"dokku-expose/hooks"
	"dokku-expose/proxy/control"
)

// An uninstallation leaves no daemon behind, also none that was taken over from by one that is dead.
func TestUninstallFindsEveryDaemon(t *testing.T) {
	t.Parallel()
	h := start(t, builtin)
	public := h.port()
	h.push("mail", source("v1", lead(public, private)))
	c, err := h.dial(public)
	h.must(err)
	h.must(h.RestartDaemon())
	h.answers(public, "v1")
	h.must(syscall.Kill(-h.DaemonGroup(), syscall.SIGKILL))
	h.must(c.echo())

	socket := filepath.Join(h.Run, "control.sock")
	if pid, err := control.FindRunning(socket); pid == 0 || err != nil {
		t.Fatalf("%d lives, %v, want the first daemon", pid, err)
	}
	h.must(hooks.StopDaemon(t.Context(), func(name string) string {
		return map[string]string{"DOKKU_ROOT": h.Root, "DOKKU_LIB_ROOT": h.Lib, "DOKKU_EXPOSE_RUN_DIR": h.Run, "PATH": os.Getenv("PATH")}[name]
	}))
	if pid, err := control.FindRunning(socket); pid != 0 || err != nil {
		t.Errorf("%d lives, %v", pid, err)
	}
	if err := c.echo(); err == nil {
		t.Error("its connection goes on")
	}
}
