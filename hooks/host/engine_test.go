package host

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
	"dokku-expose/internal/need"
)

// opens returns how often a file was opened since the last call.
func opens(t *testing.T, path string) func() int {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	// The kernel makes one event of two that are alike. Between two opens there is a close.
	if _, err := syscall.InotifyAddWatch(fd, path, syscall.IN_OPEN|syscall.IN_CLOSE); err != nil {
		t.Fatal(err)
	}
	return func() (n int) {
		buffer := make([]byte, 64<<10)
		for {
			got, err := syscall.Read(fd, buffer)
			if err == syscall.EAGAIN {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			for event := buffer[:got]; len(event) > 0; event = event[syscall.SizeofInotifyEvent+binary.NativeEndian.Uint32(event[12:]):] {
				if binary.NativeEndian.Uint32(event[4:])&syscall.IN_OPEN != 0 {
					n++
				}
			}
		}
	}
}

func TestGlobalSettingsAreReadOnce(t *testing.T) {
	need.Docker(t)
	need.HAProxy(t)
	for _, engine := range []string{settings.HAProxy, settings.Builtin} {
		t.Run(engine, func(t *testing.T) {
			root, lib := t.TempDir(), t.TempDir()
			env := map[string]string{"DOKKU_ROOT": root, "DOKKU_LIB_ROOT": lib, runDirVariable: t.TempDir()}
			h, err := New(func(key string) string { return env[key] }, nil, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			for _, dir := range []string{filepath.Join(root, "mail"), filepath.Join(root, "chat"), filepath.Join(h.Env.DataDir(), "haproxy")} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for app, hold := range map[string]string{settings.Global: "7s", "mail": "8s", "chat": "9s"} {
				if err := h.Settings.Set(app, "hold", hold); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.Settings.Set(settings.Global, "engine", engine); err != nil {
				t.Fatal(err)
			}
			if err := h.State.Save("mail", state.App{Stopped: true}); err != nil {
				t.Fatal(err)
			}
			lock, err := h.lock(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Release()

			opened := opens(t, filepath.Join(h.Settings.Dir, "global.toml"))
			for name, do := range map[string]func(context.Context) error{
				"reconcile": func(ctx context.Context) error {
					outcome, err := h.Reconcile(ctx, lock)
					if len(outcome.Apps) != 2 {
						t.Errorf("a reconcile of %d apps", len(outcome.Apps))
					}
					return err
				},
				"admit": func(ctx context.Context) error {
					return h.Admit(ctx, "mail", []deploy.Claim{{App: "mail", Key: deploy.Key{Port: 25_252}}})
				},
			} {
				if err := do(t.Context()); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if n := opened(); n != 1 {
					t.Errorf("%s reads global.toml %d times", name, n)
				}
			}
		})
	}
}
