package setup_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const (
	// pageSocket is where HAProxy reaches the daemon's page, controlSocket is the daemon's.
	pageSocket    = "/var/lib/dokku/data/expose/haproxy/page.sock"
	controlSocket = "/run/dokku-expose-daemon/control.sock"
)

// connect connects to a unix socket as a user of the machine.
func (m *machine) connect(user, socket string) (string, error) {
	return m.sh(`runuser -u ` + user + ` -- perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new($ARGV[0]) or die "$!\n"' ` + socket)
}

// connects wants a user to be able to connect to unix sockets, once they are there.
func (m *machine) connects(user string, sockets ...string) {
	m.t.Helper()
	for _, socket := range sockets {
		m.awaitFunc(user+" connects to "+socket, func() error {
			said, err := m.connect(user, socket)
			if err != nil {
				err = fmt.Errorf("%w: %s", err, said)
			}
			return err
		})
	}
}

// connectsNot wants a user not to be allowed to connect to unix sockets.
func (m *machine) connectsNot(user string, sockets ...string) {
	m.t.Helper()
	for _, socket := range sockets {
		if said, err := m.connect(user, socket); err == nil || said != "Permission denied" {
			m.t.Errorf("%s connects to %s: %v, %s", user, socket, err, said)
		}
	}
}

// page wants the statistics page to be there, for who has the login that expose:stats tells, and for nobody else.
func (m *machine) page(paths ...string) {
	m.t.Helper()
	var page struct{ URL, User, Password string }
	m.awaitFunc("the statistics page", func() error {
		said, err := m.sh("runuser -u dokku -- " + installedTree + "/subcommands/stats expose:stats --format json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, said)
		}
		return json.Unmarshal([]byte(said), &page)
	})
	address, err := url.Parse(page.URL)
	if err != nil {
		m.t.Fatal(err)
	}
	get := func(path, login string) string {
		request := fmt.Sprintf(`GET %s HTTP/1.0\r\n%s\r\n`, path, login)
		return m.must(fmt.Sprintf(`bash -c 'exec 3<>/dev/tcp/%s/%s; printf "%s" >&3; cat <&3'`, address.Hostname(), address.Port(), request))
	}
	basic := func(password string) string {
		return fmt.Sprintf(`Authorization: Basic %s\r\n`, base64.StdEncoding.EncodeToString([]byte(page.User+":"+password)))
	}
	for _, path := range paths {
		for _, login := range []string{"", basic("wrong")} {
			if said := get(path, login); !strings.Contains(said, " 401 Unauthorized") {
				m.t.Errorf("%s with the login %q:\n%s", path, login, said)
			}
		}
		// What comes from the daemon may be a moment later.
		m.awaitFunc(path+" with the login", func() error {
			if said := get(path, basic(page.Password)); !strings.Contains(said, " 200 OK") {
				return errors.New(said)
			}
			return nil
		})
	}
}
