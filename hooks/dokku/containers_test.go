package dokku

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCurrent(t *testing.T) {
	a, b, c := strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
		errs  []string
	}{
		{name: "an app that was never deployed", files: map[string]string{"HEAD": "ref"}},
		{name: "one container", files: map[string]string{"CONTAINER.web.1": a + "\n"}, want: []string{"web 1 web.1 " + a}},
		{
			name:  "in the order of their numbers",
			files: map[string]string{"CONTAINER.web.10": c, "CONTAINER.web.2": b, "CONTAINER.imap.1": a},
			want:  []string{"imap 1 imap.1 " + a, "web 2 web.2 " + b, "web 10 web.10 " + c},
		},
		{name: "a blank line before the id", files: map[string]string{"CONTAINER.web.1": "\n " + a + " \n"}, want: []string{"web 1 web.1 " + a}},
		{name: "an empty file", files: map[string]string{"CONTAINER.web.1": "", "CONTAINER.web.2": b}, want: []string{"web 2 web.2 " + b}},
		{
			name:  "garbage beside a good one",
			files: map[string]string{"CONTAINER.web.1": "rm -rf /\n", "CONTAINER.web.2": b},
			want:  []string{"web 2 web.2 " + b},
			errs:  []string{"CONTAINER.web.1: expected the id of a container", `"rm -rf /"`, "dokku ps:restart mail"},
		},
		{name: "half an id", files: map[string]string{"CONTAINER.web.1": a[:40]}, errs: []string{"CONTAINER.web.1", a[:40]}},
		{
			name:  "a control character",
			files: map[string]string{"CONTAINER.web.1": "\x1b[2J"}, errs: []string{`"\x1b[2J"`},
		},
		{name: "a huge file", files: map[string]string{"CONTAINER.web.1": strings.Repeat("x", maxFile+1)}, errs: []string{"more than"}},
		{name: "a long line", files: map[string]string{"CONTAINER.web.1": strings.Repeat("x", 9999)}, errs: []string{strings.Repeat("x", 100) + "..."}},
		{name: "a folder", files: map[string]string{"CONTAINER.web.1/": ""}, errs: []string{"not a regular file"}},
		{
			name: "names that are no places",
			files: map[string]string{
				"CONTAINER.web": a, "CONTAINER.web.0": a, "CONTAINER.web.01": a, "CONTAINER.web.x": a, "CONTAINER..1": a,
				"CONTAINER.we b.1": a, "CONTAINER.web.1.bak": a, "XCONTAINER.web.1": a, "CONTAINER.web.99999999999999999999": a,
			},
		},
		{name: "the one CONTAINER of long ago", files: map[string]string{"CONTAINER": a + "\n"}, want: []string{"web 1 web.1 " + a}},
		{name: "CONTAINER beside newer files", files: map[string]string{"CONTAINER": a, "CONTAINER.web.1": b}, want: []string{"web 1 web.1 " + b}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"root/mail/": ""}
			for name, text := range tt.files {
				files["root/mail/"+name] = text
			}
			e := host(t, files)
			e.pause = func(time.Duration) {} // Nobody completes these files.
			places, err := e.Current("mail")
			var got []string
			for _, p := range places {
				got = append(got, fmt.Sprintf("%s %d %s %s", p.Process, p.Index, p.Dyno, p.Container))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("places %q\nwant %q", got, tt.want)
			}
			if (err != nil) != (len(tt.errs) > 0) {
				t.Fatalf("error %v, want one with %q", err, tt.errs)
			}
			for _, want := range tt.errs {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
		})
	}
	t.Run("an app that is not there", func(t *testing.T) {
		if _, err := host(t, nil).Current("mail"); ExitCode(err) != 20 {
			t.Errorf("error %v, want one with exit code 20", err)
		}
	})
}

// Dokku truncates the file and writes it then. Whoever reads in between must wait, and not take the container for gone.
func TestCurrentWhileDokkuWrites(t *testing.T) {
	for _, found := range []string{"", strings.Repeat("b", 30)} {
		e := host(t, map[string]string{"root/mail/CONTAINER.web.1": found})
		id := strings.Repeat("b", 64)
		looks := 0
		e.pause = func(time.Duration) {
			// The writer may have to wait for a busy host.
			if looks++; looks < 50 {
				return
			}
			if err := os.WriteFile(filepath.Join(e.Root, "mail/CONTAINER.web.1"), []byte(id+"\n"), 0o600); err != nil {
				t.Error(err)
			}
		}
		places, err := e.Current("mail")
		if err != nil || len(places) != 1 || places[0].Container != id {
			t.Errorf("found %q first: %v, %v; want the id that was written then", found, places, err)
		}
		file, old := filepath.Join(e.Root, "mail/CONTAINER.web.1"), time.Now().Add(-time.Hour)
		if err := errors.Join(os.WriteFile(file, []byte(found), 0o600), os.Chtimes(file, old, old)); err != nil {
			t.Fatal(err)
		}
		looks = 0
		if places, err := e.Current("mail"); len(places) != 0 || (err == nil) != (found == "") || looks != 0 {
			t.Errorf("an old file with %q gives %v, %v after %d looks", found, places, err, looks)
		}
	}
}
