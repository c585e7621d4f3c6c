package servers

import (
	"bufio"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/internal/need"
	"dokku-expose/internal/wait"
)

// MariaDB logs a connection that ends without a login, and locks out a host that has made a hundred of them. Checks make none.
func TestMariaDBHearsOfNoCheck(t *testing.T) {
	need.Root(t) // --user
	mariadbd := need.Program(t, "mariadbd", "mariadb-server-core")
	dir := folder(t)
	log, port := filepath.Join(dir, "log.err"), freePort(t)
	run(t, mariadbd, "--no-defaults", "--user=root", "--skip-grant-tables", "--datadir="+dir, "--socket="+filepath.Join(dir, "sock"),
		"--pid-file="+filepath.Join(dir, "pid"), "--log-error="+log, "--log-warnings=4", "--bind-address="+private.String(),
		fmt.Sprintf("--port=%d", port), "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M")
	wait.Until(t, "MariaDB is ready", func() bool { return len(lines(t, log, "ready for connections")) > 0 })

	forEachEngine(t, func(t *testing.T, e deploy.Engine) {
		// A host that stops an engine for 200 ms in the middle of a check has it noticed: not in each of a few rounds.
		var logged []string
		for range 5 {
			before := len(lines(t, log, "Aborted connection"))
			public := checked(t, e, port, "")
			if failed := deploy.AcceptAll(t.Context(), []deploy.Target{{Addr: netip.AddrPortFrom(private, port)}}); len(failed) > 0 {
				t.Fatal(failed)
			}
			// A client who leaves without a login is logged, and what came before it is by then.
			conn := dial(t, public)
			if packet, err := bufio.NewReader(conn).Peek(5); err != nil || packet[4] != 10 {
				t.Fatalf("no greeting: %q, %v", packet, err)
			}
			_ = conn.Close()
			wait.Until(t, "the client is logged", func() bool { return len(lines(t, log, "Aborted connection")) > before })
			if logged = lines(t, log, "Aborted connection")[before:]; len(logged) == 1 {
				return
			}
		}
		t.Errorf("MariaDB has heard of more than one client:\n%s", logged)
	})
}
