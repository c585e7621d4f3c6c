package haproxy

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"dokku-expose/deploy"
)

// Config says where the HAProxy of an [Engine] lives. Every field without a stated default must be set.
type Config struct {
	// Binary is the path of the haproxy program.
	Binary string
	// ConfigFile is the path of the configuration that the engine renders and HAProxy reads.
	ConfigFile string
	// MasterSocket and StatsSocket are the paths of HAProxy's unix sockets, at most 107 bytes each.
	MasterSocket, StatsSocket string
	// StatsListen is where the statistics page listens; it asks for StatsUser and StatsPassword. The zero value: no page.
	StatsListen              netip.AddrPort
	StatsUser, StatsPassword string
	// WorkerDeadline is how long an old worker may keep its connections after a reload (hard-stop-after).
	WorkerDeadline time.Duration
}

// Engine implements [deploy.Engine]. It keeps no state: what is in force is read from the running HAProxy each time.
type Engine struct {
	cfg Config
}

var _ deploy.Engine = (*Engine)(nil)

// New makes an engine. It touches neither the file nor the sockets yet.
func New(cfg Config) *Engine { return &Engine{cfg: cfg} }

// Name implements [deploy.Engine].
func (e *Engine) Name() string { return "haproxy" }

// Serving implements [deploy.Engine].
func (e *Engine) Serving(ctx context.Context) (map[deploy.Listen]deploy.Service, error) {
	return nil, errors.ErrUnsupported
}

// Apply implements [deploy.Engine]. Without a running HAProxy the file is written, for its next start, and the error wraps
// [deploy.ErrNotRunning].
func (e *Engine) Apply(ctx context.Context, t deploy.Table) (deploy.Applied, error) {
	return deploy.Applied{}, errors.ErrUnsupported
}

// Prepare writes a valid configuration of t for the next start, with no HAProxy running.
func (e *Engine) Prepare(ctx context.Context, t deploy.Table) error {
	return errors.ErrUnsupported
}

// Command is the command line that runs HAProxy in the foreground, as master and worker.
func (e *Engine) Command() []string {
	return []string{e.cfg.Binary, "-W", "-S", e.cfg.MasterSocket + ",mode,660", "-f", e.cfg.ConfigFile}
}

// ShowConfig returns the configuration file with the password of the statistics page masked.
func (e *Engine) ShowConfig(ctx context.Context) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// Status is what the running HAProxy says of itself.
type Status struct {
	// Running tells whether HAProxy answers on its sockets. When it does not, the other fields are zero.
	Running bool
	// Version is HAProxy's own ("2.6.12-1+deb12u4").
	Version string
	// Master and Worker are process ids, OldWorkers those of workers that a reload left to their last connections.
	Master, Worker int
	OldWorkers     []int
	// Stale says how the running HAProxy differs from the configuration file, "" when it does not.
	Stale string
}

// Status asks the running HAProxy.
func (e *Engine) Status(ctx context.Context) (Status, error) {
	return Status{}, errors.ErrUnsupported
}
