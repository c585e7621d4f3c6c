package docker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
)

var (
	// ErrNotRegular is wrapped by the error of a path that leads to something else than a regular file, or through a
	// symbolic link.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge is wrapped by the error of a file over the limit.
	ErrTooLarge = errors.New("too large")
)

// ImageID returns the id ("sha256:...") of the image that ref (a name, a tag or an id) means.
func (c *Client) ImageID(ctx context.Context, ref string) (string, error) {
	inspected, err := c.inspect(ctx, ref)
	return inspected.ID, err
}

// HasName tells whether the image with that id has a name in the repository ("dokku/mail"), whatever its tag. One that is gone has
// none.
func (c *Client) HasName(ctx context.Context, id, repository string) (bool, error) {
	inspected, err := c.inspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return slices.ContainsFunc(inspected.RepoTags, func(name string) bool { return strings.HasPrefix(name, repository+":") }), err
}

// WorkDir returns the working directory of the image, "/" when it names none.
func (c *Client) WorkDir(ctx context.Context, ref string) (string, error) {
	inspected, err := c.inspect(ctx, ref)
	if err != nil {
		return "", err
	}
	if inspected.Config == nil {
		return "/", nil
	}
	return path.Join("/", inspected.Config.WorkingDir), nil
}

func (c *Client) inspect(ctx context.Context, ref string) (image.InspectResponse, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	inspected, err := c.api.ImageInspect(ctx, ref)
	if err != nil {
		return inspected, c.failed("looking at the image "+ref, err)
	}
	return inspected, nil
}

// labelTemporary marks a container that ReadFile made; its value is the time after which nothing needs it any more
// (RFC 3339).
const labelTemporary = "dokku-expose.temporary"

// ReadFile reads the first of paths that is there from the image, and returns its path and its content. Paths are
// slash-separated and count from the image's root. Nothing of the image is run: the file is copied out of a container that
// never starts and is removed again, whatever happens. What a killed process leaves is for [Client.RemoveLeftovers].
//
// The error wraps fs.ErrNotExist when none of paths is there (a directory counts as missing), [ErrNotRegular] when one is a special file or
// lies behind a symbolic link, [ErrTooLarge] when it has more than limit bytes: nothing of those is transferred.
func (c *Client) ReadFile(ctx context.Context, ref string, paths []string, limit int64) (name string, data []byte, err error) {
	what := "reading " + strings.Join(paths, " or ") + " from the image " + ref
	// The container is made and removed although ctx may be cancelled meanwhile: Docker goes on making a container that
	// nobody waits for, and then nobody removes it.
	detached := context.WithoutCancel(ctx)
	temporary, err := c.createTemporary(detached, ref)
	if err != nil {
		return "", nil, c.failed(what, err)
	}
	defer func() {
		removeErr := c.removeTemporary(detached, temporary)
		if removeErr == nil {
			return
		}
		// When somebody else removed the container meanwhile, every file looked missing: that is no answer.
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		name, data, err = "", nil, errors.Join(err, c.failed(what+": removing the temporary container "+temporary, removeErr))
	}()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for _, p := range paths {
		p = path.Join("/", p)
		data, err := c.copyOut(ctx, temporary, p, limit)
		switch {
		case err == nil:
			return p, data, nil
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, ErrNotRegular), errors.Is(err, ErrTooLarge):
			return "", nil, fmt.Errorf("image %s: %w", ref, err)
		default:
			return "", nil, c.failed(what, err)
		}
	}
	return "", nil, fmt.Errorf("%s: %w", what, fs.ErrNotExist)
}

// RemoveLeftovers removes the temporary containers of ReadFile calls whose process was killed. They cost next to nothing,
// but keep their image from being removed. Call it now and then, when no deploy waits for it.
func (c *Client) RemoveLeftovers(ctx context.Context) error {
	list, err := c.list(ctx, "looking for leftover containers", container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(filters.Arg("label", labelTemporary)),
	})
	if err != nil {
		return err
	}
	var errs []error
	for i := range list {
		until, err := time.Parse(time.RFC3339, list[i].Labels[labelTemporary])
		if err == nil && time.Now().Before(until) {
			continue
		}
		// Another process may look for leftovers too.
		err = c.removeTemporary(ctx, list[i].ID)
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			errs = append(errs, c.failed("removing the leftover container "+name(&list[i]), err))
		}
	}
	return errors.Join(errs...)
}

// createTemporary makes a container of an image, to copy files out of, and returns its id.
func (c *Client) createTemporary(ctx context.Context, ref string) (string, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	cfg := &container.Config{
		Image: ref,
		// An image may have no command, which Docker refuses even for a container that never starts.
		Cmd: []string{"dokku-expose"},
		// The container has the labels of its image, Dokku's among them, by which Dokku and we find the containers of apps.
		Labels: map[string]string{
			labelTemporary: time.Now().Add(3 * readTimeout).UTC().Format(time.RFC3339),
			labelType:      "dokku-expose",
			labelApp:       "",
		},
	}
	created, err := c.api.ContainerCreate(ctx, cfg, &container.HostConfig{NetworkMode: network.NetworkNone}, nil, nil, "")
	return created.ID, err
}

func (c *Client) removeTemporary(ctx context.Context, id string) error {
	ctx, cancel := c.within(ctx)
	defer cancel()
	return c.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
}

// copyOut copies a regular file out of a container.
func (c *Client) copyOut(ctx context.Context, id, file string, limit int64) ([]byte, error) {
	stat, err := c.look(ctx, id, file)
	switch {
	case err != nil:
		return nil, err
	case stat.Mode.IsDir():
		return nil, fmt.Errorf("%s is a directory: %w as a file", file, fs.ErrNotExist)
	case !stat.Mode.IsRegular():
		return nil, fmt.Errorf("%s is a %s, %w", file, kind(stat), ErrNotRegular)
	case stat.Size > limit:
		return nil, fmt.Errorf("%s is %w: it has %d bytes, the limit is %d", file, ErrTooLarge, stat.Size, limit)
	}
	ctx, cancel := c.within(ctx)
	defer cancel()
	content, _, err := c.api.CopyFromContainer(ctx, id, file)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	archive := tar.NewReader(content)
	header, err := archive.Next()
	if err != nil {
		return nil, fmt.Errorf("the archive with %s: %w", file, err)
	}
	if header.Typeflag != tar.TypeReg || header.Size != stat.Size {
		return nil, fmt.Errorf("%s has changed while it was read: try again", file)
	}
	data := make([]byte, header.Size)
	if _, err := io.ReadFull(archive, data); err != nil {
		return nil, fmt.Errorf("the archive with %s: %w", file, err)
	}
	return data, nil
}

// look says what is at path in a container. Docker follows symbolic links in all of a path but its last element, and has
// no way not to: look refuses them with [ErrNotRegular], if there is something behind them at all.
func (c *Client) look(ctx context.Context, id, file string) (container.PathStat, error) {
	link := ""
	for i := 1; i < len(file); i++ {
		if file[i] != '/' {
			continue
		}
		folder := file[:i]
		stat, err := c.stat(ctx, id, folder)
		if err == nil && stat.Mode&fs.ModeSymlink != 0 {
			link = folder
			stat, err = c.stat(ctx, id, stat.LinkTarget)
		}
		if err != nil {
			return stat, err
		}
		// Many images have a program at /app: there is no /app/PORTS then, and Docker would call it an internal error.
		if !stat.Mode.IsDir() {
			return stat, fmt.Errorf("%s: %w", file, fs.ErrNotExist)
		}
	}
	stat, err := c.stat(ctx, id, file)
	if err == nil && link != "" {
		err = fmt.Errorf("%s lies behind the symbolic link %s, so it counts as %w", file, link, ErrNotRegular)
	}
	return stat, err
}

func (c *Client) stat(ctx context.Context, id, file string) (container.PathStat, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	stat, err := c.api.ContainerStatPath(ctx, id, file)
	if errdefs.IsNotFound(err) {
		err = fmt.Errorf("%s: %w", file, fs.ErrNotExist)
	}
	return stat, err
}

// kind names what is not a regular file.
func kind(stat container.PathStat) string {
	switch stat.Mode.Type() {
	case fs.ModeSymlink:
		return "symbolic link"
	case fs.ModeNamedPipe:
		return "named pipe"
	}
	return "special file"
}
