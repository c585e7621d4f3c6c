package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/haproxytech/client-native/v5/runtime"
	"github.com/haproxytech/client-native/v5/runtime/options"

	"dokku-expose/deploy"
)

const (
	// askTimeout bounds one exchange on a socket, far above what a thousand routes need. A reload has a bound of its own.
	askTimeout = 10 * time.Second
	// maxLine bounds a line of commands. HAProxy reads a line into a buffer of 16 KiB.
	maxLine = 8 << 10
)

// snapshot is what the worker that answers on the stats socket says of itself, all in one answer.
type snapshot struct {
	version string
	pid     int
	// uptime is how long ago it was started.
	uptime time.Duration
	// maxConnections is the most that it takes.
	maxConnections int
	// stopping is true of an old worker that was reached in the moment of a reload.
	stopping bool
	// structure and stats are what the running configuration was rendered with (see description); "" when it is not ours.
	structure, stats string
	// proxies are the slots of each route's proxy, by its name, without the one that holds connections.
	proxies map[string][]slot
	// named are the names of the named proxies among them.
	named map[string]bool
	// certificates are the fingerprints of the bundles that it has loaded, by file, "" for the one that somebody began to replace, and
	// transaction is the file of that. Only readCertificates fills them.
	certificates map[string]string
	transaction  string
	// outdated is why another worker must take its place although its structure is as it should be.
	outdated string
}

// slot is one server line of a proxy.
type slot struct {
	name string
	addr netip.AddrPort
	// ready tells that the operator's side lets it have connections, up that HAProxy gives it some.
	ready, up bool
	// age is how long ago its state changed last.
	age time.Duration
	// sessions is the number of connections that are still on it, to whatever address. Only withSessions fills it.
	sessions int
}

// serving tells whether the slot gets new connections.
func (s slot) serving() bool { return s.ready && s.up }

// Bits of srv_admin_state, and values of srv_op_state, of `show servers state` (HAProxy's management guide, 9.3). The bit
// that tells of the configuration's own `disabled` stays set when the server has been made ready.
const (
	adminConfigured = 0x04
	opStopped       = 0
	opStopping      = 3
)

// read asks the running HAProxy what it does. The error wraps deploy.ErrNotRunning when there is none.
func (e *Engine) read(ctx context.Context) (*snapshot, error) {
	return e.snapshot(ctx, "show servers state;show info")
}

// readProxies is a read of some proxies only.
func (e *Engine) readProxies(ctx context.Context, proxies []proxy) (*snapshot, error) {
	var commands strings.Builder
	for _, p := range proxies {
		fmt.Fprintf(&commands, "show servers state %s;", p.name)
	}
	if commands.Len() > maxLine {
		return e.read(ctx)
	}
	return e.snapshot(ctx, commands.String()+"show info")
}

// identify is a read without the servers.
func (e *Engine) identify(ctx context.Context) (*snapshot, error) {
	return e.snapshot(ctx, "show info")
}

func (e *Engine) snapshot(ctx context.Context, commands string) (*snapshot, error) {
	answer, err := e.command(ctx, commands)
	if err != nil {
		return nil, err
	}
	return e.parse(answer)
}

// parse reads the answers to `show servers state` and `show info`.
func (e *Engine) parse(answer string) (*snapshot, error) {
	s := &snapshot{proxies: make(map[string][]slot), named: make(map[string]bool)}
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, ": "); ok {
			s.info(key, value)
			continue
		}
		if err := s.server(line); err != nil {
			return nil, fmt.Errorf("HAProxy's answer on %s: %q: %w", e.cfg.StatsSocket, line, err)
		}
	}
	// The answer ends with what is known of the worker: one without was cut short.
	if s.pid == 0 || s.version == "" {
		return nil, fmt.Errorf("HAProxy did not answer in full on %s: is it the socket of a HAProxy 2.4 or newer?", e.cfg.StatsSocket)
	}
	return s, nil
}

func (s *snapshot) info(key, value string) {
	switch key {
	case "Version":
		s.version = value
	case "Pid":
		s.pid, _ = strconv.Atoi(value)
	case "Uptime_sec":
		seconds, _ := strconv.Atoi(value)
		s.uptime = time.Duration(seconds) * time.Second
	case "Maxconn":
		s.maxConnections, _ = strconv.Atoi(value)
	case "Stopping":
		s.stopping = value != "0"
	case "description":
		s.structure, s.stats = parseDescription(strings.Trim(value, `"`))
	}
}

// server takes one line of `show servers state`.
func (s *snapshot) server(line string) error {
	var (
		fields [19]string
		n      int
	)
	for field := range strings.FieldsSeq(line) {
		if fields[n] = field; n == len(fields)-1 {
			break
		}
		n++
	}
	if n < len(fields)-1 || fields[0] == "#" {
		return nil
	}
	proxy, name := fields[1], fields[3]
	slots, known := s.proxies[proxy]
	if !known {
		_, _, known = parseName(proxy)
	}
	if named, ok := strings.CutPrefix(proxy, namesPrefix); ok && s.named != nil {
		s.named[named] = true
	}
	if !known || name == holdSlot {
		return nil
	}
	var numbers [4]int
	for i, field := range []int{5, 6, 9, 18} {
		n, err := strconv.Atoi(fields[field])
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	op, admin, age, port := numbers[0], numbers[1], numbers[2], numbers[3]
	ip, err := netip.ParseAddr(fields[4])
	if err != nil {
		return err
	}
	s.proxies[proxy] = append(slots, slot{
		name:  name,
		addr:  netip.AddrPortFrom(ip, uint16(port)),
		ready: admin&^adminConfigured == 0,
		up:    op != opStopped && op != opStopping,
		age:   time.Duration(age) * time.Second,
	})
	return nil
}

// withSessions fills in how many connections each slot of the named proxies has, of all proxies without any name.
func (s *snapshot) withSessions(ctx context.Context, command func(context.Context, string) (string, error), names ...string) error {
	// Objects of type 4 are servers. For a few proxies it is faster to ask for each.
	questions := []string{"show stat -1 4 -1"}
	if len(names) > 0 && len(names) < len(s.proxies)/4 {
		questions = nil
		for _, name := range names {
			questions = append(questions, fmt.Sprintf("show stat %s 4 -1", name))
		}
	}
	for _, question := range questions {
		answer, err := command(ctx, question)
		if err != nil {
			return err
		}
		if err := s.countSessions(answer); err != nil {
			return err
		}
	}
	return nil
}

// countSessions takes an answer to `show stat` about servers.
func (s *snapshot) countSessions(answer string) error {
	table, err := parseStat(answer)
	if err != nil {
		return err
	}
	for _, row := range table.rows {
		proxy, server := table.name(row)
		slots := s.proxies[proxy]
		if i := slices.IndexFunc(slots, func(s slot) bool { return s.name == server }); i >= 0 {
			slots[i].sessions = int(table.number(row, "scur"))
		}
	}
	return nil
}

// execute sends many commands with few exchanges. What HAProxy thinks of them is for the caller to read back.
func (e *Engine) execute(ctx context.Context, commands []string) error {
	for len(commands) > 0 {
		line, n := commands[0], 1
		for ; n < len(commands) && len(line)+1+len(commands[n]) <= maxLine; n++ {
			line += ";" + commands[n]
		}
		if _, err := e.command(ctx, line); err != nil {
			return err
		}
		commands = commands[n:]
	}
	return nil
}

// command sends a line of commands to the worker.
func (e *Engine) command(ctx context.Context, line string) (string, error) {
	within, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := ask(within, e.cfg.StatsSocket, func(s *runtime.SingleRuntime) (string, error) { return s.ExecuteRaw(line) })
	if !absent(err) {
		return answer, err
	}
	within, cancel = context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, masterErr := e.masterWithin(within, "show proc"); !absent(masterErr) {
		return "", fmt.Errorf("HAProxy runs, but not with its socket (%w): it goes on as it is, and can't be told of changes; restart it: %s", err, restart)
	}
	return "", fmt.Errorf("HAProxy of dokku-expose is %w (%w), so no port is served; start it: systemctl start dokku-expose-haproxy (runit: sv start dokku-expose-haproxy), and see why it ended: journalctl -u dokku-expose-haproxy",
		deploy.ErrNotRunning, err)
}

// master sends a command to the master, once that listens: it does not for a moment before and after it has started a worker.
func (e *Engine) master(ctx context.Context, line string) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for began := time.Now(); ; time.Sleep(pollInterval) {
		answer, err = e.masterWithin(ctx, line)
		if !absent(err) || time.Since(began) >= masterAbsence || ctx.Err() != nil {
			return answer, err
		}
	}
}

// masterWithin sends a command to the master and waits for its answer as long as ctx allows. The client library gives up after 30
// seconds, which looks like an empty answer.
func (e *Engine) masterWithin(ctx context.Context, line string) (string, error) {
	answer, err := ask(ctx, e.cfg.MasterSocket, func(s *runtime.SingleRuntime) (string, error) { return s.ExecuteMaster(line) })
	if absent(err) {
		err = fmt.Errorf("HAProxy's master does not listen on its socket (%w): without it no public port is opened or closed; restart HAProxy: %s", err, restart)
	}
	return answer, err
}

// restart is how an operator restarts HAProxy.
const restart = "systemctl restart dokku-expose-haproxy (runit: sv restart dokku-expose-haproxy)"

// absent tells of an error that nobody listens on a socket.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// ask runs one exchange on a socket. The library waits up to 30 seconds and knows no context: when ctx ends first, the
// exchange is left to end by itself.
func ask(ctx context.Context, socket string, exchange func(*runtime.SingleRuntime) (string, error)) (string, error) {
	var s runtime.SingleRuntime
	if err := s.Init(socket, 0, 0, options.RuntimeOptions{DoNotCheckRuntimeOnInit: true}); err != nil {
		return "", fmt.Errorf("HAProxy's socket %s: %w", socket, err)
	}
	type result struct {
		answer string
		err    error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := exchange(&s)
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, explain(socket, r.err)
	case <-ctx.Done():
		return "", fmt.Errorf("HAProxy does not answer on %s: %w; restart it when this lasts: %s", socket, ctx.Err(), restart)
	}
}

// explain says what a failed exchange means to an operator.
func explain(socket string, err error) error {
	switch {
	case err == nil, absent(err):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not open HAProxy's socket: %w; run this as root or as Dokku's user", err)
	}
	return fmt.Errorf("HAProxy's socket %s: %w", socket, err)
}
