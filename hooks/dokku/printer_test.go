package dokku

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPrinter(t *testing.T) {
	const danger = "a\x1b[2J\rb\u202ec\xffd\te"
	for _, tt := range []struct {
		name     string
		print    func(*Printer)
		out, err string
		quiet    string
	}{
		{name: "step", print: func(p *Printer) { p.Step("port %d", 25) }, out: "-----> port 25\n"},
		{name: "heading", print: func(p *Printer) { p.Heading("mail") }, out: "=====> mail\n"},
		{name: "detail", print: func(p *Printer) { p.Detail("%s", "100%") }, out: "       100%\n"},
		{name: "warning", print: func(p *Printer) { p.Warn("port %d", 25) }, err: " !     port 25\n"},
		{name: "several lines", print: func(p *Printer) { p.Warn("a\nb\n\nc\n") }, err: " !     a\n !     b\n !     \n !     c\n"},
		{
			name:  "joined errors",
			print: func(p *Printer) { p.Fail(errors.Join(errors.New("a"), errors.New("b"))) }, err: " !     a\n !     b\n",
		},
		{name: "no error", print: func(p *Printer) { p.Fail(nil) }},
		{name: "an exit code and nothing to say", print: func(p *Printer) { p.Fail(Env{NotImplementedExit: 10}.NotImplemented()) }},
		{name: "an exit code and an error", print: func(p *Printer) { p.Fail(NoApp("x")) }, err: " !     App x does not exist\n"},
		{
			name:  "what is not printable",
			print: func(p *Printer) { p.Step("%s", danger) }, out: `-----> a\x1b[2J\rb\u202ec\xffd\te` + "\n",
		},
		{name: "letters of the world", print: func(p *Printer) { p.Step("é 漢 🙂") }, out: "-----> é 漢 🙂\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, stderr bytes.Buffer
			tt.print(&Printer{Out: &out, Err: &stderr})
			if out.String() != tt.out || stderr.String() != tt.err {
				t.Errorf("printed %q and %q on stderr\nwant %q and %q", &out, &stderr, tt.out, tt.err)
			}
			out.Reset()
			stderr.Reset()
			tt.print(&Printer{Out: &out, Err: &stderr, Quiet: true})
			if out.Len() > 0 || stderr.String() != tt.err {
				t.Errorf("when quiet, printed %q and %q on stderr; want nothing and %q", &out, &stderr, tt.err)
			}
		})
	}
}

func FuzzVisible(f *testing.F) {
	for _, seed := range []string{"", "mail", "a\x00b", "\xff\xfe", "\ufffd", "é\u0301", "\u2028\u202e", "a\nb", "\U0010ffff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := Visible(text)
		if !utf8.ValidString(got) || strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
			t.Errorf("%q becomes %q, which is not all printable", text, got)
		}
		if Visible(got) != got {
			t.Errorf("%q becomes %q, and that %q", text, got, Visible(got))
		}
		if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 && got != text {
			t.Errorf("%q is printable and becomes %q", text, got)
		}
	})
}

func TestReport(t *testing.T) {
	rows := []Row{
		{Flag: "--expose-hold", Value: "10s"},
		{Flag: "--expose-engine", Value: "haproxy"},
		{Flag: "--running", Value: "a\nb"},
		{Flag: "--expose-empty", Value: ""},
	}
	// The layout is what Dokku 0.38 prints for ports:report, trailing blanks included.
	table := "       Expose empty:                  \n" +
		"       Expose engine:                 haproxy\n" +
		"       Expose hold:                   10s\n" +
		"       Running:                       a\\nb\n"
	for _, tt := range []struct {
		name         string
		rows         []Row
		format, only string
		quiet        bool
		want, err    string
	}{
		{name: "all", rows: rows, want: "=====> mail expose information\n" + table},
		{name: "all, and so asked", rows: rows, format: "stdout", want: "=====> mail expose information\n" + table},
		{name: "quiet", rows: rows, quiet: true, want: table},
		{
			name: "a long flag", rows: []Row{{Flag: "--expose-a", Value: "x"}, {Flag: "--expose-" + strings.Repeat("y", 30), Value: "z"}}, quiet: true,
			want: fmt.Sprintf("       %-39sx\n       %-39sz\n", "Expose a:", "Expose "+strings.Repeat("y", 30)+":"),
		},
		{name: "one", rows: rows, only: "--expose-engine", want: "haproxy\n"},
		{name: "one that is empty", rows: rows, only: "--expose-empty", want: "\n"},
		{
			name: "one that is none", rows: rows, only: "--expose-x",
			err: "Invalid flag passed, valid flags: --expose-empty, --expose-engine, --expose-hold, --running",
		},
		{name: "JSON", rows: rows, format: "json", want: `{"empty":"","engine":"haproxy","hold":"10s","running":"a\nb"}` + "\n"},
		{name: "JSON of one", rows: rows, format: "json", only: "--expose-engine", err: "--format flag cannot be specified when specifying an info flag"},
		{name: "another format", rows: rows, format: "xml", err: `Format must be "stdout" or "json": "xml"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			p := &Printer{Out: &out, Err: &out, Quiet: tt.quiet}
			err := p.Report("mail", tt.rows, tt.format, tt.only)
			if out.String() != tt.want {
				t.Errorf("printed\n%s\nwant\n%s", &out, tt.want)
			}
			if err != nil && err.Error() != tt.err || err == nil && tt.err != "" {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	h := Help{Summary: "Public TCP ports", Commands: []Command{
		{"expose:set <app>|--global <key> [<value>]", "Set or clear a setting"},
		{"expose:list [<app>]", "Lists the ports"},
	}}
	if got, want := h.Lines(false), "    expose, Public TCP ports\n"; got != want {
		t.Errorf("help %q, want %q", got, want)
	}
	want := "    expose:list [<app>], Lists the ports\n    expose:set <app>|--global <key> [<value>], Set or clear a setting\n"
	if got := h.Lines(true); got != want {
		t.Errorf("help --all %q, want %q", got, want)
	}
	want = "Usage: dokku expose[:COMMAND]\n\nPublic TCP ports\n\nAdditional commands:\n" +
		"    expose:list [<app>]                        Lists the ports\n" +
		"    expose:set <app>|--global <key> [<value>]  Set or clear a setting\n"
	if got := h.Page(); got != want {
		t.Errorf("page\n%s\nwant\n%s", got, want)
	}
}

// The test runs itself as a child of a shell, whose command line is what counts.
func TestHelpAll(t *testing.T) {
	if os.Getenv("DOKKU_EXPOSE_HELP_CHILD") != "" {
		all, err := HelpAll()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("all=%t\n", all)
		return
	}
	for arg, want := range map[string]string{"--all": "all=true", "--allx": "all=false", "help": "all=false"} {
		// The command after the program keeps the shell from making way for it.
		shell := exec.Command("sh", "-c", `"$0" -test.run='^TestHelpAll$' && true`, os.Args[0], arg)
		shell.Env = append(os.Environ(), "DOKKU_EXPOSE_HELP_CHILD=1")
		out, err := shell.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want+"\n") {
			t.Errorf("dokku help %s: %v, %s; want %s", arg, err, out, want)
		}
	}
}
