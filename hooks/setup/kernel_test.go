package setup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKernelSetting(t *testing.T) {
	for _, row := range []struct {
		name string
		// before is the setting's value, between what somebody makes of it after the installation, "" for nobody.
		before, between string
		// installed and uninstalled are the values after each, written tells that there is a file between them.
		installed, uninstalled string
		written                bool
	}{
		{name: "the kernel's default", before: "2", installed: "1", uninstalled: "2", written: true},
		{name: "switched off", before: "0", installed: "1", uninstalled: "0", written: true},
		{name: "wanted already", before: "1", installed: "1", uninstalled: "1"},
		{name: "changed by an operator meanwhile", before: "2", between: "0", installed: "0", uninstalled: "0", written: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			k := kernelSetting{key: "net.ipv4.tcp_tw_reuse", want: "1", live: filepath.Join(dir, "live"), file: filepath.Join(dir, "sysctl.d", "60.conf")}
			write(t, k.live, row.before)
			var said []string
			s := &setup{Options{Step: func(message string) { said = append(said, message) }}}
			if err := k.install(s); err != nil {
				t.Fatal(err)
			}
			if row.between != "" {
				write(t, k.live, row.between)
			}
			before := len(said)
			if err := k.install(s); err != nil {
				t.Fatal(err)
			}
			if len(said) > before {
				t.Errorf("the second installation says %q", said[before:])
			}
			if got := read(t, k.live); got != row.installed {
				t.Errorf("installed, it is %s, want %s", got, row.installed)
			}
			text, err := os.ReadFile(k.file)
			if written := err == nil; written != row.written || written && !strings.HasSuffix(string(text), "\nnet.ipv4.tcp_tw_reuse = 1\n") {
				t.Errorf("the file: %v\n%s", err, text)
			}
			if err := k.uninstall(s); err != nil {
				t.Fatal(err)
			}
			if got := read(t, k.live); got != row.uninstalled {
				t.Errorf("uninstalled, it is %s, want %s", got, row.uninstalled)
			}
			if _, err := os.Stat(filepath.Dir(k.file)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder is still there: %v", err)
			}
		})
	}
}

// A kernel without the setting needs none.
func TestKernelSettingThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	k := kernelSetting{live: filepath.Join(dir, "live"), file: filepath.Join(dir, "sysctl.d", "60.conf")}
	s := &setup{Options{Step: func(message string) { t.Errorf("it says %q", message) }}}
	if err := errors.Join(k.install(s), k.uninstall(s)); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
