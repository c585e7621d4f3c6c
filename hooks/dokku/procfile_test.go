package dokku

import (
	"fmt"
	"strings"
	"testing"
)

func TestDeployedProcesses(t *testing.T) {
	for _, tt := range []struct {
		name, file, text, want string
		known                  bool
	}{
		{name: "a Procfile", file: "Procfile.4711", text: "web: ./web -p $PORT\r\n  imap_4:./imap # not pop: this\n#old: x\nno type\n\nweb: twice\n", want: "imap_4 web", known: true},
		{name: "an empty one", file: "Procfile.4711", known: true},
		{name: "the one in force is another deploy's", file: "Procfile", text: "web: x"},
		{name: "that of another process", file: "Procfile.47", text: "web: x"},
		{name: "none", file: "Procfile.4711.missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := host(t, map[string]string{"root/mail/": "", "lib/data/ps/mail/" + tt.file: tt.text})
			e.PID = 4711
			types, known, err := e.DeployedProcesses("mail")
			if got := strings.Join(types, " "); err != nil || got != tt.want || known != tt.known {
				t.Errorf("got %q, %t, %v; want %q, %t", got, known, err, tt.want, tt.known)
			}
			e.PID = 0
			if types, known, err := e.DeployedProcesses("mail"); known || err != nil {
				t.Errorf("outside of Dokku: %q, %t, %v", types, known, err)
			}
		})
	}
	e := host(t, map[string]string{fmt.Sprintf("lib/data/ps/mail/Procfile.%d/", 4711): ""})
	e.PID = 4711
	if _, _, err := e.DeployedProcesses("mail"); err == nil || !strings.Contains(err.Error(), "Procfile of mail") {
		t.Errorf("a folder in its place: %v", err)
	}
}
