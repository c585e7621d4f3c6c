// Package kubernetes runs a real Kubernetes for tests. Start gives an API server with its etcd: nodes, pods and services are the objects that a
// test puts, and a pod's container is what the test runs at its address. StartCluster adds controllers and nodes that run pods. Package
// kubetest has a stand-in for the API server that can also fail and lie.
//
// The programs come from programs/go.mod, a module of its own; command build builds them once.
package kubernetes

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dokku-expose/internal/freeport"
	"dokku-expose/internal/kubetest"
	"dokku-expose/internal/testcert"
)

// patience bounds what should take seconds, on a machine with much else to do.
const patience = 2 * time.Minute

// etcd's sockets, which need a port in their names, and their URLs, which must be relative.
const (
	socket  = "clients:0"
	clients = "unix://" + socket
	peers   = "unix://peers:0"
)

// Object is one of Kubernetes', as decoded from JSON.
type Object = kubetest.Object

// Server is an API server with an etcd. Its node "here" has the addresses of this host. Authorization is by RBAC; its own
// User is an administrator.
type Server struct {
	User

	t        testing.TB
	programs string
	dir      string
	// address is the one that it listens on.
	address, url string
	flags        []string
	cert         testcert.Certificate
	http         *http.Client
	process      *process
	// groups has the kinds of each group that was asked for.
	groups sync.Map
}

// Start starts both and waits until the API server is ready. They end with the test, also when its process is killed.
func Start(t testing.TB) *Server {
	t.Helper()
	return start(t, programs(t), "127.0.0.1",
		// A pod's service account is made by a controller.
		"--disable-admission-plugins=ServiceAccount",
		// The Service "kubernetes" would get this host's address, which may be loopback's.
		"--endpoint-reconciler-type=none", "--advertise-address=192.0.2.1")
}

func start(t testing.TB, programs, address string, flags ...string) *Server {
	t.Helper()
	// The path of a socket must be short, which that of a test's folder may not be.
	dir, err := os.MkdirTemp("", "kubernetes-")
	s := &Server{t: t, programs: programs, dir: dir, address: address, flags: flags}
	s.must(err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.User = User{server: s, token: rand.Text()}
	port, err := freeport.Take()
	s.must(err)
	t.Cleanup(func() {
		if err := freeport.Release(port); err != nil {
			t.Error(err)
		}
	})
	s.url = fmt.Sprintf("https://%s:%d", address, port)
	s.certify()
	s.must(os.WriteFile(s.path("tokens"), fmt.Appendf(nil, "%s,admin,admin,\"system:masters\"\n", s.token), 0o600))

	s.run(etcd, etcd, "--data-dir=etcd", "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls="+clients, "--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers)
	// The one that runs then: a process that was started again in the midst of the test must not end before the test's own cleaning up.
	t.Cleanup(func() {
		if s.process != nil {
			s.process.kill()
		}
	})
	s.Resume()
	s.Put(kubetest.Node("here", kubetest.HostAddresses(t)...))
	return s
}

// path is that of a file.
func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

// Resume starts the API server after Stop, and waits until it is ready.
func (s *Server) Resume() {
	s.t.Helper()
	s.process = s.launch(kubernetes, apiserver, append(s.flags, "--etcd-servers", "unix://"+s.path(socket),
		"--bind-address", s.address, "--secure-port", strings.TrimPrefix(s.url, "https://"+s.address+":"),
		"--tls-cert-file", s.cert.Chain, "--tls-private-key-file", s.cert.Key,
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-signing-key-file", s.cert.Key, "--service-account-key-file", s.cert.Chain,
		"--token-auth-file", s.path("tokens"), "--authorization-mode=RBAC")...)
	s.await("the API server is ready", func() error {
		if _, err := s.Do(http.MethodGet, "/readyz", "", nil); err != nil {
			return err
		}
		// It makes this one a moment later.
		_, err := s.Do(http.MethodGet, "/api/v1/namespaces/default", "", nil)
		return err
	})
}

// Stop kills the API server. At SIGTERM it would go on with its watches for a minute.
func (s *Server) Stop() {
	s.t.Helper()
	s.must(s.process.cmd.Process.Kill())
	<-s.process.done
}

// Hang stops the API server by SIGSTOP: connections are accepted by the kernel, and nothing is answered.
func (s *Server) Hang() { s.must(s.process.cmd.Process.Signal(syscall.SIGSTOP)) }

// Unhang ends Hang.
func (s *Server) Unhang() { s.must(s.process.cmd.Process.Signal(syscall.SIGCONT)) }

// Compact has etcd forget all versions of objects but the present ones.
func (s *Server) Compact() {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.path(socket))
	}}}
	defer client.CloseIdleConnections()
	ask := func(path, body string) (answer struct {
		Header struct{ Revision string }
	}) {
		response, err := client.Post("http://etcd"+path, "application/json", strings.NewReader(body))
		s.must(err)
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			s.t.Fatalf("etcd answers %s to %s", response.Status, path)
		}
		s.must(json.NewDecoder(response.Body).Decode(&answer))
		return answer
	}
	now := ask("/v3/kv/range", `{"key":"AA=="}`).Header.Revision
	ask("/v3/kv/compaction", fmt.Sprintf(`{"revision":%q,"physical":true}`, now))
}

// process is one that has been started.
type process struct {
	cmd *exec.Cmd
	// done is closed when it has ended.
	done chan struct{}
}

// kill ends it, if it has not ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// run starts a program, which ends with the test and with this process.
func (s *Server) run(program, component string, args ...string) {
	s.t.Helper()
	s.t.Cleanup(s.launch(program, component, args...).kill)
}

// launch starts a program, which ends with this process. A component of Kubernetes is the first of its arguments.
func (s *Server) launch(program, component string, args ...string) *process {
	s.t.Helper()
	if program == kubernetes {
		args = append([]string{component}, args...)
	}
	log, err := os.OpenFile(s.path(component+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	s.must(err)
	defer log.Close()
	return s.start(exec.Command(filepath.Join(s.programs, program), args...), log)
}

func (s *Server) start(cmd *exec.Cmd, log *os.File) *process {
	s.t.Helper()
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, s.dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// Pdeathsig is sent when the thread that has started the program ends, and tests end threads.
		runtime.LockOSThread()
		started <- p.cmd.Start()
		_ = p.cmd.Wait() // It ends by a signal.
		close(p.done)
	}()
	s.must(<-started)
	return p
}

// await asks until there is no error.
func (s *Server) await(what string, ask func() error) {
	s.t.Helper()
	over, tick := time.After(patience), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
			continue
		case <-s.process.done:
		case <-over:
		}
		s.t.Fatalf("waited in vain until %s: %v\n%s", what, err, s.logs())
	}
}

// logs are the last lines of what the programs said.
func (s *Server) logs() string {
	var text strings.Builder
	names, err := filepath.Glob(s.path("*.log"))
	for _, name := range names {
		log, readErr := os.ReadFile(name)
		err = errors.Join(err, readErr)
		lines := bytes.SplitAfter(log, []byte("\n"))
		fmt.Fprintf(&text, "%s: %s", filepath.Base(name), bytes.Join(lines[max(0, len(lines)-20):], nil))
	}
	if err != nil {
		fmt.Fprintln(&text, err)
	}
	return text.String()
}

// certify makes the server's certificate and key, which also sign the tokens of service accounts.
func (s *Server) certify() {
	s.t.Helper()
	cert, err := testcert.Make(s.dir, 24*time.Hour, s.address, "10.0.0.1")
	s.must(err)
	s.cert = cert
	transport := &http.Transport{TLSClientConfig: cert.Client, ForceAttemptHTTP2: true}
	s.http = &http.Client{Transport: transport, Timeout: patience}
	s.t.Cleanup(transport.CloseIdleConnections)
}

// Kubeconfig writes a kubeconfig of the user to a file of the test, and returns its path.
func (u User) Kubeconfig(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "k3s.yaml")
	ca, err := os.ReadFile(u.server.cert.Chain)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: %q, certificate-authority-data: %s}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
users: [{name: test, user: {token: %s}}]
`, u.server.url, base64.StdEncoding.EncodeToString(ca), u.token)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
