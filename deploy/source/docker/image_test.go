package docker

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"dokku-expose/internal/dockertest"
)

func TestReadFile(t *testing.T) {
	dockertest.Client(t)
	c := newClient(t)
	full := strings.Repeat("x", 100)
	files := fstest.MapFS{
		"app":             {Mode: fs.ModeDir | 0o755},
		"app/PORTS":       {Data: []byte("25:5025\n"), Mode: 0o644},
		"app/private":     {Data: []byte("26:5026\n"), Mode: 0},
		"app/empty":       {Mode: 0o644},
		"app/full":        {Data: []byte(full), Mode: 0o644},
		"app/over":        {Data: []byte(full + "x"), Mode: 0o644},
		"app/a b%2e?#é":   {Data: []byte("odd"), Mode: 0o644},
		"app/link":        {Data: []byte("PORTS"), Mode: fs.ModeSymlink | 0o777},
		"app/outside":     {Data: []byte("/etc/passwd"), Mode: fs.ModeSymlink | 0o777},
		"app/dir":         {Mode: fs.ModeDir | 0o755},
		"app/dir/PORTS":   {Data: []byte("27:5027\n"), Mode: 0o644},
		"app/pipe":        {Mode: fs.ModeNamedPipe | 0o644},
		"app/null":        {Mode: fs.ModeDevice | fs.ModeCharDevice | 0o644},
		"linked":          {Data: []byte("app"), Mode: fs.ModeSymlink | 0o777},
		"dangling":        {Data: []byte("nowhere"), Mode: fs.ModeSymlink | 0o777},
		"linked-to-file":  {Data: []byte("app/PORTS"), Mode: fs.ModeSymlink | 0o777},
		"app/dir/escape":  {Data: []byte("../../../.."), Mode: fs.ModeSymlink | 0o777},
		"app/dir/upwards": {Data: []byte(".."), Mode: fs.ModeSymlink | 0o777},
	}
	// No CMD, a volume, and labels as of an app's container: none of it must matter.
	image := dockertest.Image(t, files, "VOLUME /app/dir", "LABEL com.dokku.container-type=deploy com.dokku.app-name=mail", "WORKDIR /app")

	for _, row := range []struct {
		name     string
		paths    []string
		wantName string
		want     string
		wantErr  error
		// wantWords are words of the error.
		wantWords string
	}{
		{name: "a file", paths: []string{"/app/PORTS"}, wantName: "/app/PORTS", want: "25:5025\n"},
		{name: "a path without its first slash", paths: []string{"app/PORTS"}, wantName: "/app/PORTS", want: "25:5025\n"},
		{name: "a path that would leave the image", paths: []string{"../../app/./x/../PORTS"}, wantName: "/app/PORTS", want: "25:5025\n"},
		{name: "the first that is there", paths: []string{"/nothing", "/app/nothing", "/app/PORTS", "/app/full"}, wantName: "/app/PORTS", want: "25:5025\n"},
		{name: "a file that nobody may read", paths: []string{"/app/private"}, wantName: "/app/private", want: "26:5026\n"},
		{name: "an empty file", paths: []string{"/app/empty"}, wantName: "/app/empty"},
		{name: "a name with everything", paths: []string{"/app/a b%2e?#é"}, wantName: "/app/a b%2e?#é", want: "odd"},
		{name: "in a volume", paths: []string{"/app/dir/PORTS"}, wantName: "/app/dir/PORTS", want: "27:5027\n"},
		{name: "exactly the limit", paths: []string{"/app/full"}, wantName: "/app/full", want: full},
		{name: "over the limit", paths: []string{"/app/over", "/app/PORTS"}, wantErr: ErrTooLarge, wantWords: "/app/over is too large: it has 101 bytes, the limit is 100"},
		{name: "nothing", paths: []string{"/app/nothing", "/nothing/PORTS"}, wantErr: fs.ErrNotExist, wantWords: "/app/nothing or /nothing/PORTS"},
		{name: "below a file", paths: []string{"/app/PORTS/PORTS"}, wantErr: fs.ErrNotExist},
		{name: "no path at all", paths: nil, wantErr: fs.ErrNotExist},
		{name: "a symbolic link", paths: []string{"/app/link", "/app/PORTS"}, wantErr: ErrNotRegular, wantWords: "/app/link is a symbolic link"},
		{name: "a symbolic link to nothing", paths: []string{"/dangling"}, wantErr: ErrNotRegular, wantWords: "symbolic link"},
		{name: "a symbolic link to the host's file", paths: []string{"/app/outside"}, wantErr: ErrNotRegular},
		{name: "behind a symbolic link", paths: []string{"/linked/PORTS"}, wantErr: ErrNotRegular, wantWords: "/linked/PORTS lies behind the symbolic link /linked"},
		{name: "behind one deeper down", paths: []string{"/app/dir/upwards/PORTS"}, wantErr: ErrNotRegular, wantWords: "the symbolic link /app/dir/upwards"},
		{name: "behind one out of the image", paths: []string{"/app/dir/escape/app/PORTS"}, wantErr: ErrNotRegular},
		{name: "nothing behind a symbolic link", paths: []string{"/linked/nothing"}, wantErr: fs.ErrNotExist},
		{name: "behind a symbolic link to nothing", paths: []string{"/dangling/PORTS"}, wantErr: fs.ErrNotExist},
		{name: "behind a symbolic link to a file", paths: []string{"/linked-to-file/PORTS"}, wantErr: fs.ErrNotExist},
		{name: "a directory", paths: []string{"/app/dir"}, wantErr: fs.ErrNotExist},
		{name: "the next one after a directory", paths: []string{"/app/dir", "/app/PORTS"}, wantName: "/app/PORTS", want: "25:5025\n"},
		{name: "the root", paths: []string{"/"}, wantErr: fs.ErrNotExist},
		{name: "a named pipe", paths: []string{"/app/pipe"}, wantErr: ErrNotRegular, wantWords: "named pipe"},
		{name: "a device", paths: []string{"/app/null"}, wantErr: ErrNotRegular, wantWords: "special file"},
	} {
		t.Run(row.name, func(t *testing.T) {
			name, data, err := c.ReadFile(context.Background(), image, row.paths, 100)
			if !errors.Is(err, row.wantErr) || name != row.wantName || string(data) != row.want {
				t.Errorf("got %q, %q, %v, want %q, %q, %v", name, data, err, row.wantName, row.want, row.wantErr)
			}
			if row.wantWords != "" && (err == nil || !strings.Contains(err.Error(), row.wantWords)) {
				t.Errorf("the error %v does not say %q", err, row.wantWords)
			}
		})
	}
	noneLeft(t, image)
}

// noneLeft fails when a container of the image is there.
func noneLeft(t *testing.T, image string) {
	t.Helper()
	list, err := dockertest.Client(t).ContainerList(context.Background(), container.ListOptions{All: true,
		Filters: filters.NewArgs(filters.Arg("ancestor", image))})
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range list {
		t.Errorf("left behind: %v, %s, mounts %v", left.Names, left.Status, left.Mounts)
	}
}

func TestReadFileOfNoImage(t *testing.T) {
	dockertest.Client(t)
	_, _, err := newClient(t).ReadFile(context.Background(), "dokku-expose-test/no-such-image:latest", []string{"/PORTS"}, 100)
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no-such-image") {
		t.Errorf("got %v, want an error that names the image and does not mean that it lacks the file", err)
	}
}

func TestReadFileTransfersNoMoreThanTheLimit(t *testing.T) {
	image := dockertest.Image(t, fstest.MapFS{"PORTS": {Data: bytes.Repeat([]byte("12345678"), 1<<20), Mode: 0o644}})
	answered := between(t, func(*http.Request) {})
	_, _, err := newClient(t).ReadFile(context.Background(), image, []string{"/PORTS"}, 64<<10)
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if n := answered.Load(); n > 64<<10 {
		t.Errorf("Docker was made to send %d bytes", n)
	}
	noneLeft(t, image)
}

func TestReadFileCancelled(t *testing.T) {
	image := dockertest.Image(t, fstest.MapFS{"PORTS": {Data: []byte("25:5025\n"), Mode: 0o644}})
	for _, row := range []struct {
		name string
		// at tells at which request the caller gives up.
		at func(*http.Request) bool
	}{
		{"while the container is made", func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/containers/create") }},
		{"while the file is looked at", func(r *http.Request) bool {
			return r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/archive")
		}},
		{"while the file is read", func(r *http.Request) bool {
			return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/archive")
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			between(t, func(r *http.Request) {
				if row.at(r) {
					cancel()
				}
			})
			name, data, err := newClient(t).ReadFile(ctx, image, []string{"/PORTS"}, 100)
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnreachable) {
				t.Errorf("got %q, %q, %v, want context.Canceled", name, data, err)
			}
			noneLeft(t, image)
		})
	}
}

// Without its container every file looks missing, and an app whose PORTS is missing would lose its ports.
func TestReadFileWhoseContainerIsRemoved(t *testing.T) {
	image := dockertest.Image(t, fstest.MapFS{"PORTS": {Data: []byte("25:5025\n"), Mode: 0o644}})
	api := dockertest.Client(t)
	between(t, func(r *http.Request) {
		if _, path, _ := strings.Cut(r.URL.Path, "/containers/"); strings.HasSuffix(path, "/archive") {
			id := strings.TrimSuffix(path, "/archive")
			if err := api.ContainerRemove(context.Background(), id, container.RemoveOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
	_, _, err := newClient(t).ReadFile(context.Background(), image, []string{"/PORTS"}, 100)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want an error that does not mean that the file is missing", err)
	}
}

func TestTemporaryContainer(t *testing.T) {
	image := dockertest.Image(t, fstest.MapFS{"PORTS": {Data: []byte("25:5025\n"), Mode: 0o644}},
		"LABEL com.dokku.container-type=deploy com.dokku.app-name=mail")
	api := dockertest.Client(t)
	c := newClient(t)
	ctx := context.Background()
	// What a process leaves that is killed while it reads.
	killed, err := c.createTemporary(ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.removeTemporary(ctx, killed); err != nil {
			t.Error(err)
		}
	})
	if got, ok := find(t, c, killed); ok {
		t.Errorf("it counts as a container of the app: %+v", got)
	}
	of, err := api.ContainerList(ctx, container.ListOptions{All: true,
		Filters: filters.NewArgs(filters.Arg("label", "com.dokku.app-name=mail"), filters.Arg("id", killed))})
	if err != nil || len(of) > 0 {
		t.Errorf("Dokku finds it as the app's own: %v, %v", of, err)
	}

	old := dockertest.Create(t, image, dockertest.Options{Cmd: []string{"x"},
		Labels: map[string]string{labelTemporary: time.Now().Add(-time.Second).UTC().Format(time.RFC3339)}})
	foreign := dockertest.Create(t, image, dockertest.Options{Cmd: []string{"x"}})
	if err := c.RemoveLeftovers(ctx); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, id string
		want     bool
	}{
		{"one that may be in use", killed, true},
		{"one whose time is over", old, false},
		{"one that is not ours", foreign, true},
	} {
		left, err := api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("id", row.id))})
		if err != nil || (len(left) == 1) != row.want {
			t.Errorf("%s: %d there (%v), want it to be: %v", row.name, len(left), err, row.want)
		}
	}
}

func TestImage(t *testing.T) {
	dockertest.Client(t)
	files := fstest.MapFS{"PORTS": {Data: []byte("25:5025\n"), Mode: 0o644}}
	c := newClient(t)
	ctx := context.Background()
	for _, row := range []struct {
		name         string
		instructions []string
		wantWorkDir  string
	}{
		{"no WORKDIR", nil, "/"},
		{"a WORKDIR", []string{"WORKDIR /srv/app"}, "/srv/app"},
	} {
		t.Run(row.name, func(t *testing.T) {
			image := dockertest.Image(t, files, row.instructions...)
			if got, err := c.WorkDir(ctx, image); err != nil || got != row.wantWorkDir {
				t.Errorf("working directory %q, %v, want %q", got, err, row.wantWorkDir)
			}
			id, err := c.ImageID(ctx, image)
			if err != nil || !strings.HasPrefix(id, "sha256:") {
				t.Errorf("id %q, %v", id, err)
			}
			if again, err := c.ImageID(ctx, id); err != nil || again != id {
				t.Errorf("id of the id %q: %q, %v", id, again, err)
			}
			repository, _, _ := strings.Cut(image, ":")
			for name, want := range map[string]bool{repository: true, repository + "x": false, "dokku/mail": false} {
				if has, err := c.HasName(ctx, id, name); has != want || err != nil {
					t.Errorf("the image has a name in %s: %t, %v; want %t", name, has, err, want)
				}
			}
		})
	}
	if has, err := c.HasName(ctx, "sha256:"+strings.Repeat("0", 64), "dokku/mail"); has || err != nil {
		t.Errorf("an image that is gone has a name: %t, %v", has, err)
	}
	if _, err := c.ImageID(ctx, "dokku-expose-test/no-such-image:latest"); err == nil || !strings.Contains(err.Error(), "no-such-image") {
		t.Errorf("got %v, want an error that names the image", err)
	}
}
