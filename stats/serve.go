package stats

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"dokku-expose/deploy"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

const (
	// maxClients bounds the connections to the page: they come out of the descriptors that the engine has for all else.
	maxClients = 64
	// maxScrapes bounds how many ask for metrics at the same time.
	maxScrapes = 4
	// maxHeader bounds a request, in bytes.
	maxHeader = 8 << 10
	// headerTimeout bounds how long a client may take to say what it wants, requestTimeout all that it may take.
	headerTimeout, requestTimeout = 5 * time.Second, 30 * time.Second
	// retryInterval is the time between two attempts to listen.
	retryInterval = 200 * time.Millisecond
)

// Options say what [Serve] shows, where and to whom. All fields but one of Listen and Socket must be set.
type Options struct {
	// Listen is where the page listens; with a Socket, the path of a unix socket that its owner and group can connect to, it
	// listens there instead, for a proxy in front of it.
	Listen netip.AddrPort
	Socket string
	// User and Password are the login.
	User, Password string
	// Observe asks the engine. It is called for each page and each scrape, by several goroutines.
	Observe func(context.Context) (deploy.Observation, error)
	// Listening is called when the page has begun to listen, and when it has ceased to. It may be nil.
	Listening func(bool)
	// Counters are the daemon's own.
	Counters *Counters
	Log      *slog.Logger
}

// Serve serves the page at / and /containers, and the metrics at /metrics, until ctx ends. While somebody else has the address, a daemon that is
// being replaced for one, it says so in the log once and tries again until it gets it. The error is about the options.
func Serve(ctx context.Context, o Options) error {
	handler, err := newHandler(o)
	if err != nil {
		return err
	}
	for told := false; ; {
		ln, err := listen(ctx, o)
		if err == nil {
			o.Log.Info("statistics page", "address", ln.Addr().String())
			o.listening(true)
			err = serve(ctx, ln, handler, o.Log)
			o.listening(false)
			told = false
		}
		if ctx.Err() != nil {
			return nil
		}
		if !told {
			o.Log.Warn("there is no statistics page as long as this lasts; another address for it: dokku expose:set --global stats-listen ADDRESS:PORT",
				"error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryInterval):
		}
	}
}

func (o Options) listening(is bool) {
	if o.Listening != nil {
		o.Listening(is)
	}
}

func listen(ctx context.Context, o Options) (net.Listener, error) {
	if o.Socket == "" {
		network := "tcp4"
		if o.Listen.Addr().Is6() {
			// [::] is every address of IPv6, as for the public ports: 0.0.0.0 is somebody else's choice.
			network = "tcp6"
		}
		return new(net.ListenConfig).Listen(ctx, network, o.Listen.String())
	}
	// What is there is of a daemon that has ended, or is about to: two don't serve the same host.
	if err := os.Remove(o.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: o.Socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// When this one closes it, another one's may be there.
	ln.SetUnlinkOnClose(false)
	if err := os.Chmod(o.Socket, 0o660); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// serverName is how the page says whose it is.
const serverName = "dokku-expose"

// serve answers at ln until ctx ends.
func serve(ctx context.Context, ln net.Listener, handler http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       2 * refresh * time.Second,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	// Whoever takes over wants the address at once; nobody misses the rest of a page that renews itself.
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	err := s.Serve(netutil.LimitListener(ln, maxClients))
	return errors.Join(err, s.Close())
}

// server answers requests.
type server struct {
	Options
	login [sha256.Size]byte
}

func newHandler(o Options) (http.Handler, error) {
	if !o.Listen.IsValid() && o.Socket == "" || o.User == "" || o.Password == "" {
		return nil, errors.New("the statistics page needs an address, a user and a password")
	}
	s := &server{Options: o, login: digest(o.User, o.Password)}
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		Collector(o.Observe), o.Counters, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", s.page)
	mux.HandleFunc("/containers", s.page)
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: requestTimeout,
		// One metric that can't be must not cost all others.
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      slog.NewLogLogger(o.Log.Handler(), slog.LevelError),
	}))
	return s.guard(mux), nil
}

// guard lets only requests through that have the login and change nothing.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Server", serverName)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		user, password, ok := r.BasicAuth()
		given := digest(user, password)
		if !ok || subtle.ConstantTimeCompare(given[:], s.login[:]) != 1 {
			h.Set("WWW-Authenticate", `Basic realm="dokku-expose", charset="UTF-8"`)
			http.Error(w, "dokku expose:stats tells the login", http.StatusUnauthorized)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "there is nothing to change here", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// digest makes one value of a login, as long for every login. The user can't hold the colon, which ends it.
func digest(user, password string) [sha256.Size]byte {
	return sha256.Sum256([]byte(user + ":" + password))
}

// ask asks the engine, not for ever.
func (s *server) ask(ctx context.Context) (deploy.Observation, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return s.Observe(ctx)
}
