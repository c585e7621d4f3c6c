package docker

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dokku-expose/internal/dockertest"
	"dokku-expose/internal/need"
)

// between puts a proxy between the clients made from now on and the real Docker. It sees each request before Docker does,
// and returns the number of bytes that Docker has answered with.
func between(t *testing.T, see func(*http.Request)) *atomic.Int64 {
	t.Helper()
	socket, isUnix := strings.CutPrefix(dockertest.Client(t).DaemonHost(), "unix://")
	if !isUnix {
		t.Skipf("Docker is not on a unix socket, but at %s", socket)
	}
	var answered atomic.Int64
	proxy := httputil.ReverseProxy{
		Director: func(r *http.Request) { r.URL.Scheme, r.URL.Host = "http", "docker" },
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			conn, err := dialer.DialContext(ctx, "unix", socket)
			return counting{conn, &answered}, err
		}},
		// A client that goes away in the middle is what some tests are about.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		see(r)
		proxy.ServeHTTP(w, r)
	}))
	return &answered
}

// counting counts the bytes that come in.
type counting struct {
	net.Conn
	in *atomic.Int64
}

func (c counting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.Add(int64(n))
	return n, err
}

// serve answers on a socket that DOCKER_HOST names until the test ends.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	return socket
}

func TestContainersIsOneCall(t *testing.T) {
	var calls []string
	between(t, func(r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/_ping") {
			calls = append(calls, r.Method+" "+r.URL.Path)
		}
	})
	c := newClient(t)
	if len(calls) > 0 {
		t.Errorf("New called %v", calls)
	}
	if _, err := c.Endpoints(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(calls) != 1 || !strings.HasSuffix(calls[0], "/containers/json") {
		t.Errorf("Containers called %v, want one list", calls)
	}
}

func TestNewRefusesAnImpossibleHost(t *testing.T) {
	t.Setenv("DOCKER_HOST", "nonsense")
	if _, err := New(); err == nil || !strings.Contains(err.Error(), `"nonsense"`) {
		t.Errorf("got %v, want an error that quotes DOCKER_HOST", err)
	}
}

func TestUnreachable(t *testing.T) {
	background := context.Background()
	for _, row := range []struct {
		name string
		host func(t *testing.T) (context.Context, string)
		// want are words of the error.
		want []string
	}{
		{"nothing there", func(t *testing.T) (context.Context, string) {
			return background, "unix://" + filepath.Join(t.TempDir(), "none.sock")
		}, []string{"none.sock", "systemctl status docker"}},
		{"nobody listens", func(t *testing.T) (context.Context, string) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			listener.Close()
			return background, "tcp://" + listener.Addr().String()
		}, []string{"tcp://127.0.0.1:", "systemctl status docker"}},
		{"no answer", func(t *testing.T) (context.Context, string) {
			ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
			t.Cleanup(cancel)
			socket := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
			return ctx, "unix://" + socket
		}, []string{"no answer in time", "systemctl status docker"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			ctx, host := row.host(t)
			t.Setenv("DOCKER_HOST", host)
			_, err := newClient(t).Endpoints(ctx)
			if !errors.Is(err, ErrUnreachable) {
				t.Fatalf("got %v, want ErrUnreachable", err)
			}
			for _, word := range row.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
		})
	}

	t.Run("a caller that gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(background)
		serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		}))
		_, err := newClient(t).Endpoints(ctx)
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnreachable) {
			t.Errorf("got %v, want context.Canceled and not ErrUnreachable", err)
		}
	})
}

// A user that is not in the group docker can't connect. Root can to everything, so the test asks again as nobody.
func TestUnreachableForUser(t *testing.T) {
	if os.Getenv("DOKKU_EXPOSE_TEST_AS_NOBODY") != "" {
		_, err := newClient(t).Endpoints(context.Background())
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "user id 65534") || !strings.Contains(err.Error(), "usermod -aG docker") {
			t.Errorf("got %v, want ErrUnreachable that names the user and the group", err)
		}
		return
	}
	need.Root(t)
	// Unlike t.TempDir, a directory that every user may enter.
	dir, err := os.MkdirTemp("", "dokku-expose")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket := listener.Addr().String()
	if err := os.Chmod(socket, 0o660); err != nil {
		t.Fatal(err)
	}
	again := exec.Command("/proc/self/exe", "-test.run=^TestUnreachableForUser$", "-test.v")
	again.Dir = "/"
	again.Env = []string{"DOKKU_EXPOSE_TEST_AS_NOBODY=1", "DOCKER_HOST=unix://" + socket}
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}
