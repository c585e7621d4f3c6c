// Package dockertest gives tests real images, containers and networks on the Docker engine that DOCKER_HOST names, and
// takes all of them away when the test ends. It needs no registry: images are made of the files that the test gives.
//
// It knows nothing of the project but package need, so that every room's tests may use it.
package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/docker/go-connections/nat"

	"dokku-expose/internal/need"
)

// Label marks everything made here: what it marks while no test runs is a leftover of a test that was killed.
const Label = "dokku-expose.test"

// patience bounds each call of Docker's. It is long, since machines that run tests can be slow.
const patience = 2 * time.Minute

// Client is a client of the Docker engine. The test is skipped, or fails with CI=true, where there is none.
func Client(t testing.TB) *client.Client {
	t.Helper()
	need.Docker(t)
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Image makes an image of files and returns its name. A file's mode may make it a directory, a device or a symbolic link
// (whose target is its data). The instructions are those of a Dockerfile that concern no files: `WORKDIR /app`,
// `CMD ["/app/server"]`, `ENV`, `EXPOSE`, `LABEL`, `VOLUME`.
func Image(t testing.TB, files fstest.MapFS, instructions ...string) string {
	t.Helper()
	c := Client(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	name := unique("dokku-expose-test/image")
	changes := append(slices.Clone(instructions), "LABEL "+Label+"=image")
	progress, err := c.ImageImport(ctx, image.ImportSource{Source: archive(t, files), SourceName: "-"}, name, image.ImportOptions{Changes: changes})
	if err != nil {
		t.Fatalf("making an image: %v", err)
	}
	defer progress.Close()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := c.ImageRemove(ctx, name, image.RemoveOptions{Force: true, PruneChildren: true}); err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("removing the image %s: %v", name, err)
		}
	})
	if err := jsonmessage.DisplayJSONMessagesStream(progress, io.Discard, 0, false, nil); err != nil {
		t.Fatalf("making an image: %v", err)
	}
	return name
}

// archive packs files for ImageImport.
func archive(t testing.TB, files fstest.MapFS) io.Reader {
	t.Helper()
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	// Sorted, so that a directory comes before what is in it.
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		file := files[name]
		h := &tar.Header{Name: name, Mode: int64(file.Mode.Perm()), Typeflag: tar.TypeReg, Size: int64(len(file.Data))}
		switch file.Mode.Type() {
		case fs.ModeDir:
			h.Typeflag, h.Name = tar.TypeDir, name+"/"
		case fs.ModeSymlink:
			h.Typeflag, h.Size, h.Linkname = tar.TypeSymlink, 0, string(file.Data)
		case fs.ModeNamedPipe:
			h.Typeflag = tar.TypeFifo
		case fs.ModeDevice | fs.ModeCharDevice:
			// The null device.
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, 1, 3
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("packing %s: %v", name, err)
		}
		if h.Size > 0 {
			if _, err := w.Write(file.Data); err != nil {
				t.Fatalf("packing %s: %v", name, err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("packing an image: %v", err)
	}
	return &packed
}

var programs struct {
	sync.Mutex
	built map[string][]byte
}

// Program builds the main package at pkg ("dokku-expose/internal/testapp") as a static program, for an image without any
// other file. It is built once for all tests of a package.
func Program(t testing.TB, pkg string) []byte {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if program, ok := programs.built[pkg]; ok {
		return program
	}
	file := filepath.Join(t.TempDir(), path.Base(pkg))
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", file, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, out)
	}
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if programs.built == nil {
		programs.built = make(map[string][]byte)
	}
	programs.built[pkg] = program
	return program
}

// Options say how a container differs from what its image makes.
type Options struct {
	// Name is the container's name; "" for a name of its own that no other has.
	Name   string
	Labels map[string]string
	Env    []string
	Cmd    []string
	// Tty gives it a terminal.
	Tty     bool
	Host    *container.HostConfig
	Network *network.NetworkingConfig
}

// Labels are those that Dokku gives to a container of an app's process type; index counts from 1.
func Labels(app, process string, index int) map[string]string {
	return map[string]string{
		"com.dokku.app-name":       app,
		"com.dokku.container-type": "deploy",
		"com.dokku.process-type":   process,
		"com.dokku.dyno":           process + "." + strconv.Itoa(index),
	}
}

// Run creates and starts a container and returns its id.
func Run(t testing.TB, image string, o Options) string {
	t.Helper()
	id := Create(t, image, o)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := Client(t).ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		t.Fatalf("starting a container of %s: %v", image, err)
	}
	return id
}

// Create creates a container without starting it and returns its id.
func Create(t testing.TB, image string, o Options) string {
	t.Helper()
	c := Client(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	labels := map[string]string{Label: "container"}
	for key, value := range o.Labels {
		labels[key] = value
	}
	cfg := &container.Config{Image: image, Labels: labels, Env: o.Env, Cmd: o.Cmd, Tty: o.Tty, ExposedPorts: nat.PortSet{}}
	if o.Host != nil {
		// `docker run -p` exposes what it publishes, and Docker ignores a binding of a port that is not exposed.
		for port := range o.Host.PortBindings {
			cfg.ExposedPorts[port] = struct{}{}
		}
	}
	if o.Name == "" {
		o.Name = unique("dokku-expose-test")
	}
	created, err := c.ContainerCreate(ctx, cfg, o.Host, o.Network, nil, o.Name)
	if err != nil {
		t.Fatalf("creating a container of %s: %v", image, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := c.ContainerRemove(ctx, created.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
		// A test may have removed it, or told Docker to (AutoRemove).
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			t.Errorf("removing the container %s: %v", o.Name, err)
		}
	})
	return created.ID
}

// Network creates a network and returns its name. It goes after the containers that a later Run attached to it.
func Network(t testing.TB, o network.CreateOptions) string {
	t.Helper()
	c := Client(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	name := unique("dokku-expose-test")
	if o.Labels == nil {
		o.Labels = map[string]string{Label: "network"}
	}
	if _, err := c.NetworkCreate(ctx, name, o); err != nil {
		t.Fatalf("creating a network: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.NetworkRemove(ctx, name); err != nil {
			t.Errorf("removing the network %s: %v", name, err)
		}
	})
	return name
}

// unique makes a name that no other test has, in this process or another.
func unique(prefix string) string {
	return prefix + "-" + strings.ToLower(rand.Text()[:12])
}
