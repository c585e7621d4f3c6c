package servers

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/internal/need"
)

// Postfix' smtpd dies of a connection that ends in the middle of its PROXY header, and its master then starts none for a while.
func TestPostfixGreetsEveryClient(t *testing.T) {
	need.Root(t)
	postfix := need.Program(t, "postfix", "postfix")
	dir := folder(t)
	port := freePort(t)
	log := filepath.Join(dir, "log")
	write(t, dir, "main.cf", `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
myhostname = mail.example.org
mydestination =
mynetworks =
alias_maps =
local_recipient_maps =
inet_interfaces = loopback-only
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_upstream_proxy_protocol = haproxy
`, dir)
	write(t, dir, "master.cf", `%s:%d inet n - n - 20 smtpd
postlog unix-dgram n - n - 1 postlogd
anvil unix - - n - 1 anvil
`, private, port)
	if out, err := exec.Command("install", "-d", dir+"/queue").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("install", "-d", "-o", "postfix", dir+"/data").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command(postfix, "-c", dir, "start").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(postfix, "-c", dir, "abort").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if t.Failed() {
			t.Log(strings.Join(lines(t, log, ""), ""))
		}
	})
	listens(t, port)

	forEachEngine(t, func(t *testing.T, e deploy.Engine) {
		public := checked(t, e, port, "proxy-protocol=v2")
		for range 20 {
			line, err := bufio.NewReader(dial(t, public)).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "220 ") {
				t.Fatalf("no greeting: %q, %v", line, err)
			}
		}
		if died := lines(t, log, "fatal:"); len(died) > 0 {
			t.Errorf("smtpd has died: %s", died)
		}
	})
}
