package haproxy

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/listeners"
)

// Config says where the HAProxy of an [Engine] lives. Every field without a stated default must be set.
type Config struct {
	// Binary is the path of the haproxy program, 2.4 or newer.
	Binary string
	// ConfigFile is the path of the configuration that the engine renders and HAProxy reads. Its folder must exist; the
	// file is readable for its owner and the group that it gets there, for it holds StatsPassword. A JSON file and the certificates are
	// kept beside it, likewise.
	ConfigFile string
	// MasterSocket and StatsSocket are the paths of HAProxy's unix sockets, at most 107 bytes each.
	MasterSocket, StatsSocket string
	// StatsListen is where the statistics page, and metrics for Prometheus where HAProxy has them, listen; they ask for
	// StatsUser and StatsPassword. The zero value: no page. A page whose port is taken is left out.
	StatsListen              netip.AddrPort
	StatsUser, StatsPassword string
	// DaemonSocket is the path of a unix socket, at most 107 bytes. Who serves HTTP there answers for /containers and /metrics of
	// the statistics page; HAProxy's own metrics are at /metrics/haproxy then. "": nobody does, and they are at /metrics.
	DaemonSocket string
	// WorkerDeadline is how long an old worker may keep its connections after a reload (hard-stop-after). 0: no limit.
	WorkerDeadline time.Duration
	// TotalConnections is how many connections there may be at once, the next ones wait to be accepted. A client that gets to its route by a
	// server name has two. 0: as many as the limit of open files allows.
	TotalConnections int
	// Listeners tells who listens on this host. nil: the host's real sockets.
	Listeners func() ([]listeners.Listener, error)
}

// Engine implements [deploy.Engine]. What is in force is read from the running HAProxy and its files each time. Calls that change something
// must not run at the same time, in this process or another.
type Engine struct {
	cfg Config

	// openSSL tells whether program was built with OpenSSL. It is asked again when another program is installed.
	mu      sync.Mutex
	program fs.FileInfo
	openSSL bool
}

var _ deploy.Engine = (*Engine)(nil)

// New makes an engine. It touches neither the file nor the sockets yet.
func New(cfg Config) *Engine { return &Engine{cfg: cfg} }

// Name implements [deploy.Engine].
func (e *Engine) Name() string { return "haproxy" }

// Command is the command line that runs HAProxy in the foreground, as master and worker. Where systemd waits to be told of
// the start (Type=notify), it is told. HAProxy says on standard error what happens to servers, and nothing of single
// connections. How many of these it takes follows from the limit of open files: a connection needs up to six.
func (e *Engine) Command() []string {
	mode := "-W"
	if os.Getenv("NOTIFY_SOCKET") != "" {
		mode = "-Ws"
	}
	return []string{e.cfg.Binary, mode, "-S", e.cfg.MasterSocket + ",mode,660", "-f", e.cfg.ConfigFile}
}

// ShowConfig returns the configuration file, the password of the statistics page masked.
func (e *Engine) ShowConfig(context.Context) ([]byte, error) {
	text, err := os.ReadFile(e.cfg.ConfigFile)
	if err != nil {
		return nil, fmt.Errorf("HAProxy's configuration: %w", err)
	}
	return password.ReplaceAll(text, []byte("${1}********")), nil
}

var password = regexp.MustCompile(`(?m)(insecure-password ).*$`)

// useBuiltin is what to do where nobody serves a route beside HAProxy.
const useBuiltin = "use the built-in engine: dokku expose:set --global engine builtin"

// Supports implements [deploy.Engine].
func (e *Engine) Supports(r deploy.Route) error {
	switch l := r.Key.Frontend(); {
	case l.Proto != deploy.TCP:
		return fmt.Errorf("UDP is %w by HAProxy", deploy.ErrUnsupported)
	case l.Overlaps(deploy.FrontendAt(nowhere)):
		return fmt.Errorf("HAProxy needs port %d to stay closed on 127.0.0.1, for connections that are held; choose another public port", holdPort)
	case l.Port == takeoverPort && slices.ContainsFunc(e.holdAddrs(), func(a netip.AddrPort) bool { return l.Overlaps(deploy.FrontendAt(a)) }):
		return fmt.Errorf("HAProxy needs port %d on addresses that begin with 127, for connections that are held while it reloads; choose another public port", takeoverPort)
	case e.cfg.StatsListen.IsValid() && l.Overlaps(deploy.FrontendAt(e.cfg.StatsListen)):
		return fmt.Errorf("the statistics page listens on %s; choose another public port", e.cfg.StatsListen)
	case r.Options.StartTLS == deploy.PostgresStartTLS:
		return fmt.Errorf("starttls=%s is %w by HAProxy; %s", deploy.PostgresStartTLS, deploy.ErrUnsupported, useBuiltin)
	case r.Key.ServerName != "":
		return e.supportsNames()
	case secure(r):
		return e.supportsTLS()
	}
	return nil
}

// supportsTLS is Supports for routes with TLS. It starts the program at the first call only, and after an update.
func (e *Engine) supportsTLS() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	installed, err := os.Stat(e.cfg.Binary)
	if err != nil {
		return fmt.Errorf("HAProxy: %w", err)
	}
	if e.program == nil || !os.SameFile(e.program, installed) || !e.program.ModTime().Equal(installed.ModTime()) {
		ctx, cancel := context.WithTimeout(context.Background(), validateTimeout)
		defer cancel()
		text, err := e.aboutProgram(ctx)
		if err != nil {
			return err
		}
		e.program, e.openSSL = installed, slices.Contains(strings.Fields(text), "+OPENSSL")
	}
	if !e.openSSL {
		return fmt.Errorf("TLS is %w by %s, which was built without OpenSSL: install another one, or %s", deploy.ErrUnsupported, e.cfg.Binary, useBuiltin)
	}
	return nil
}
