package host

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/hooks/dokku"
	"dokku-expose/hooks/settings"
	"dokku-expose/hooks/state"
)

// folders makes a host whose apps are on the scheduler k3s, in folders of the test.
func folders(t *testing.T) *Host {
	t.Helper()
	dir := t.TempDir()
	h, err := New(func(key string) string {
		return map[string]string{"DOKKU_ROOT": filepath.Join(dir, "root"), "DOKKU_LIB_ROOT": filepath.Join(dir, "lib"), runDirVariable: dir}[key]
	}, nil, t.Output(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := h.BecomeEntry("edge", "/nowhere"); err != nil {
		t.Fatal(err)
	}
	return h
}

// An entry host gets the apps, their PORTS and the settings that the Dokku host has, and follows when these are changed or taken away.
func TestTableArrives(t *testing.T) {
	from, to := folders(t), folders(t)
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	ports := func(text string) state.App {
		return state.App{Current: "tag:1", Images: map[string]state.Ports{"tag:1": {File: "PORTS", Text: text}}}
	}
	var last Table
	carry := func() error {
		t.Helper()
		table, err := from.table(last)
		text, marshalErr := json.Marshal(table)
		must(marshalErr, to.Adopt(t.Context(), string(text)))
		last = table
		return err
	}
	serves := func(app, want string) {
		t.Helper()
		got := ""
		apps, err := to.Apps(t.Context())
		must(err)
		for _, a := range apps {
			if a.Name == app {
				must(a.Err)
				var public []string
				for _, c := range a.Claims() {
					public = append(public, c.Key.String())
				}
				if got = strings.Join(public, " "); a.Off != "" {
					got += " " + a.Off
				}
			}
		}
		if got != want {
			t.Errorf("%s has %q, want %q", app, got, want)
		}
	}
	self, err := dokku.FindProcess(os.Getpid())
	must(err)
	must(from.Env.SetApp("mail", "post"), from.State.Save("mail", ports("25:5025\n")), from.Settings.Set("mail", "hold", "7s"))
	must(from.Env.SetApp("chat", "default"), from.State.Save("chat", ports("6667:6667\n")), from.Settings.Set(settings.Global, "hold", "9s"))
	must(carry())
	serves("mail", "25")
	serves("chat", "6667")
	for app, want := range map[string]string{"mail": "7s", "chat": "9s"} {
		values, err := to.Settings.Effective(app)
		if err != nil || values.Hold.String() != want {
			t.Errorf("hold of %s is %s, %v, want %s", app, values.Hold, err, want)
		}
	}
	if namespace, err := to.Env.Namespace("mail"); namespace != "post" || err != nil {
		t.Errorf("mail is in the namespace %q, %v", namespace, err)
	}

	// Of a deploy they are told when it is a rename's.
	renamed := ports("25:5025\n")
	renamed.Deploy = &state.Deploy{Process: self, Before: []deploy.Place{{Process: "web", Dyno: "web", Container: "uid"}}, Former: "post"}
	must(from.State.Save("mail", renamed), carry())
	if app, err := to.App("mail"); err != nil || app.Deploying == nil || app.Deploying.Former != "post" || len(app.Deploying.Before) != 1 {
		t.Errorf("mail is being renamed as %+v, %v", app.Deploying, err)
	}
	renamed.Deploy.Former = ""
	must(from.State.Save("mail", renamed), carry())
	if app, err := to.App("mail"); err != nil || app.Deploying != nil {
		t.Errorf("mail is being deployed: %+v, %v", app.Deploying, err)
	}

	// Of an app whose file is broken they keep what they were told, and others go on.
	must(os.WriteFile(filepath.Join(from.State.Dir, "mail.json"), []byte("{"), 0o600))
	stopped := ports("6667:6667\n")
	stopped.Stopped = true
	must(from.State.Save("chat", stopped), from.Settings.Set("mail", "hold", ""))
	if err := carry(); err == nil || !strings.Contains(err.Error(), "mail") {
		t.Errorf("the broken file: %v", err)
	}
	serves("mail", "25")
	serves("chat", "6667 stopped")

	from.Closing = "mail"
	if err := carry(); err == nil {
		t.Error("the file is not broken any more")
	}
	serves("mail", "25 stopped")
	from.Closing = ""

	must(from.State.Save("mail", ports("25:5025\n110:5110\n")), from.State.Remove("chat"), from.Env.RemoveApp("chat"))
	must(carry())
	serves("mail", "25 110")
	serves("chat", "")
	if values, err := to.Settings.Effective("mail"); err != nil || values.Hold.String() != "9s" {
		t.Errorf("hold is %s, %v, want that of the host", values.Hold, err)
	}

	for text, part := range map[string]string{"{": "k3s-install", "{}": "no apps", `{"apps": {"../../etc": {}}}`: "can't be an app"} {
		if err := to.Adopt(t.Context(), text); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", text, err)
		}
	}
	serves("mail", "25 110")
}
