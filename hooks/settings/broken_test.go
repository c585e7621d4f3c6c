package settings

import (
	"strings"
	"testing"
	"time"
)

// A broken file tells what can be read of it beside its error, and to whoever salvages it without one.
func TestSalvage(t *testing.T) {
	for _, tt := range []struct {
		name, global, app string
		hold              time.Duration
		balance           string
		mappings          string
		disabled          bool
	}{
		{"nothing wrong", "hold = \"17s\"\n", "balance = \"source\"\n", 17 * time.Second, "source", "", false},
		{"an unknown key", "hodl = \"17s\"\nhold = \"3s\"\n", "", 3 * time.Second, "", "", false},
		{"a wrong value", "hold = \"soon\"\nbalance = \"source\"\n", "", 10 * time.Second, "source", "", false},
		{"lines that are no TOML", "no\nhold = \"3s\"\n= x\nbalance = \"source\n", "what?\nmappings = [\n  \"25:5025\",\n  26:5026,\n]\ndisabled = true\n",
			3 * time.Second, "", "25:5025\n", true},
		{"no line end", "hold = \"3s\"\nno", "no", 3 * time.Second, "", "", false},
		{"no UTF-8", "\xff\nhold = \"3s\"\n", "", 3 * time.Second, "", "", false},
		{"garbage", strings.Repeat("no\n", 200) + "hold = \"3s\"\n", strings.Repeat("[", 1000), 10 * time.Second, "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := store(t, map[string]string{Global: tt.global, "mail": tt.app})
			broken := tt.name != "nothing wrong"
			if _, err := s.Effective("mail"); (err != nil) != broken {
				t.Errorf("error %v, want one: %t", err, broken)
			}
			s.Salvage = true
			v, err := s.Effective("mail")
			if err != nil || v.Hold != tt.hold || string(v.Policy.Options.Balance) != tt.balance {
				t.Errorf("hold %s, balance %q, %v; want %s, %q", v.Hold, v.Policy.Options.Balance, err, tt.hold, tt.balance)
			}
			app, err := s.Load("mail")
			var lines string
			for _, m := range app.Mappings {
				lines += m.String() + "\n"
			}
			if err != nil || app.Disabled != tt.disabled || lines != tt.mappings {
				t.Errorf("disabled %t, mappings %q, %v; want %t, %q", app.Disabled, lines, err, tt.disabled, tt.mappings)
			}
			if broken && strings.Contains(tt.name, "unknown") {
				if err := s.Set(Global, "hold", "4s"); err == nil {
					t.Error("a broken file is edited")
				}
			}
		})
	}
}

// What closes something is written into a broken file, too, with everything else in it left as it is.
func TestBrokenFilesAreClosed(t *testing.T) {
	for _, tt := range []struct{ name, before, after string }{
		{"a wrong key", "# mine\nhodl = \"5s\"\n", "# mine\nhodl = \"5s\"\ndisabled = true\n"},
		{"a wrong value of its own", "disabled = \"yes\"\n", "disabled = true\n"},
		{"no TOML", "# mine\nno\n", "disabled = true\n# mine\nno\n"},
		{"no TOML, said before", "no\ndisabled = false\n", "disabled = true\nno\n"},
		{"no TOML, with Windows' line ends", "no\r\n", "disabled = true\r\nno\r\n"},
		{"no TOML, with a mark", "\ufeffno\n", "\ufeffdisabled = true\nno\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := store(t, map[string]string{"mail": tt.before})
			if err := s.SetDisabled("mail", true); err != nil {
				t.Fatal(err)
			}
			if got := text(t, s, "mail"); got != tt.after {
				t.Errorf("the file is\n%q\nwant\n%q", got, tt.after)
			}
			if app, _ := s.Load("mail"); !app.Disabled {
				t.Error("nobody reads that it is disabled")
			}
			if err := s.SetDisabled("mail", true); err != nil || text(t, s, "mail") != tt.after {
				t.Errorf("once more: %v, %q", err, text(t, s, "mail"))
			}
			if strings.Contains(tt.after, "no") {
				if err := s.SetDisabled("mail", false); err == nil {
					t.Error("a broken file opens ports")
				}
			}
		})
	}
	s := store(t, map[string]string{"mail": "hodl = \"5s\"\nmappings = [\"25:5025\", \"26:5026\"]\n"})
	if err := s.SetMappings("mail", mappings(t, "25:5025")); err == nil {
		t.Error("a broken file is edited")
	}
	if err := s.RemoveMappings("mail", mappings(t, "26:5026")); err != nil {
		t.Fatal(err)
	}
	if got := text(t, s, "mail"); strings.Contains(got, "25:5025") || !strings.Contains(got, "26:5026") || !strings.Contains(got, "hodl") {
		t.Errorf("the file is\n%s", got)
	}
}
