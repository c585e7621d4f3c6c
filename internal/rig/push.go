package rig

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
)

// Source is what is in an app's repository: files, and the test app that the image runs.
type Source struct {
	// Version is what the app greets with.
	Version string
	// Listen are the private ports that the app listens on.
	Listen []uint16
	// Files are the texts of files by path: {"PORTS": "25:5025\n"}.
	Files map[string]string
	// Env are more variables of internal/testapp: {"LINGER": "1s"}.
	Env map[string]string
	// Processes are the arguments of internal/testapp by process type, as a Procfile has them: {"imap": "-ports 5993"}.
	// `web` is always there.
	Processes map[string]string
	// WorkDir is where in the image the files are. /app when empty.
	WorkDir string
	// Prepare changes the folder with the files before it is committed: links, folders, modes.
	Prepare func(dir string) error
}

// fromScratch begins the Dockerfile of a test app.
const fromScratch = "FROM scratch\n"

// write makes the repository of src in the folder dir.
func (h *Host) write(dir string, src Source) error {
	workDir := src.WorkDir
	if workDir == "" {
		workDir = "/app"
	}
	env := map[string]string{"VERSION": src.Version}
	var ports []string
	for _, port := range src.Listen {
		ports = append(ports, strconv.Itoa(int(port)))
	}
	if ports != nil {
		env["PORTS"] = strings.Join(ports, ",")
	}
	maps.Copy(env, src.Env)
	var dockerfile, procfile strings.Builder
	fmt.Fprintf(&dockerfile, fromScratch+"WORKDIR %s\nCOPY . %s\n", workDir, workDir)
	for _, key := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&dockerfile, "ENV %s=%q\n", key, env[key])
	}
	fmt.Fprintf(&dockerfile, "CMD [%q]\n", workDir+"/testapp")
	files := map[string]string{"Dockerfile": dockerfile.String()}
	if src.Processes != nil {
		processes := map[string]string{"web": ""}
		maps.Copy(processes, src.Processes)
		for _, process := range slices.Sorted(maps.Keys(processes)) {
			fmt.Fprintf(&procfile, "%s: %s/testapp %s\n", process, workDir, processes[process])
		}
		files["Procfile"] = procfile.String()
	}
	maps.Copy(files, src.Files)
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	program, err := os.ReadFile(h.options.App)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "testapp"), program, 0o755); err != nil {
		return err
	}
	if src.Prepare != nil {
		return src.Prepare(dir)
	}
	return nil
}

// Push is `git push dokku`. The app is created when it is not there.
func (h *Host) Push(app string, src Source, opts ...Option) error {
	return h.do(opts, func(s *session) error {
		if err := s.ensureApp(app); err != nil {
			return err
		}
		if err := s.commit(app, func(dir string) error { return s.write(dir, src) }); err != nil {
			return err
		}
		if err := s.receive(app); err != nil {
			return err
		}
		return s.SetProperty("git", app, "source-image", "")
	})
}

// FromImage is git:from-image: the repository is a Dockerfile that Dokku writes.
func (h *Host) FromImage(app, image string, opts ...Option) error {
	return h.do(opts, func(s *session) error {
		if err := s.SetProperty("git", app, "source-image", image); err != nil {
			return err
		}
		err := s.commit(app, func(dir string) error {
			text := fmt.Sprintf("FROM %s\nLABEL com.dokku.docker-image-labeler/alternate-tags=[\\\"%s\\\"]\n", image, image)
			return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644)
		})
		if err != nil {
			return err
		}
		return s.receive(app)
	})
}

// Image builds an image outside of Dokku, for FromImage, and returns its name.
func (h *Host) Image(name string, src Source) (string, error) {
	dir, err := os.MkdirTemp(h.Dir, "image-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := h.write(dir, src); err != nil {
		return "", err
	}
	ref := name + ":" + h.tag()
	return ref, h.buildImage(h.ctx, dir, ref, nil)
}

// Rebuild is ps:rebuild.
func (h *Host) Rebuild(app string, opts ...Option) error {
	return h.do(opts, func(s *session) error { return s.rebuild(app) })
}

func (s *session) rebuild(app string) error {
	if err := s.trigger("receive-app", app); err != nil {
		return err
	}
	return s.build(app, "")
}

// receive is what a push sets off once the commit is there.
func (s *session) receive(app string) error {
	if err := s.trigger("post-config-update", app, "set", "GIT_REV"); err != nil {
		return err
	}
	revision := make([]byte, 20)
	_, _ = rand.Read(revision) // never fails
	return s.build(app, hex.EncodeToString(revision))
}

// commit makes the repository of the app anew.
func (s *session) commit(app string, write func(dir string) error) error {
	if err := os.RemoveAll(s.repository(app)); err != nil {
		return err
	}
	if err := os.Mkdir(s.repository(app), 0o755); err != nil {
		return err
	}
	return write(s.repository(app))
}

func (h *Host) repository(app string) string { return filepath.Join(h.Dir, "repos", app) }

// build checks the app's source out, builds, releases and deploys it (plugins/git/functions: git_trigger_build, and from
// dokku_receive on).
func (s *session) build(app, revision string) error {
	dir, err := os.MkdirTemp(s.Dir, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, os.DirFS(s.repository(app))); err != nil {
		return err
	}
	s.dir = dir
	defer func() { s.dir = os.TempDir() }()

	if err := s.trigger("core-post-extract", app, dir, revision); err != nil {
		return err
	}
	if err := s.extractKustomization(app); err != nil {
		return err
	}
	if err := s.stageProcfile(app, dir); err != nil {
		return err
	}
	// Dokku goes on whatever these two say: git_receive_app calls all of this in `git_build ... || exit_code=$?`, where
	// bash ignores `set -e`, and only core-post-extract has an `if` of its own.
	if err := unlessTriggerError(s.trigger("post-extract", app, dir, revision)); err != nil {
		return err
	}
	const builder = "dockerfile"
	if err := unlessTriggerError(s.trigger("pre-receive-app", app, builder, dir, revision)); err != nil {
		return err
	}
	// From here on each script is a process of its own, and ends with the first trigger that fails.
	s.say("-----> Building %s from Dockerfile", app)
	if err := s.trigger("pre-build", builder, app, dir); err != nil {
		s.say(" !     App build failed")
		return err
	}
	for _, name := range []string{"docker-args-build", "docker-args-process-build"} {
		if _, err := s.triggerOutput(name, app, builder); err != nil {
			return err
		}
	}
	if err := s.buildImage(s.ctx, dir, s.image(app), map[string]string{"com.dokku.image-stage": "build", "com.dokku.app-name": app}); err != nil {
		return err
	}
	if err := s.trigger("post-build", builder, app, dir); err != nil {
		return err
	}
	return s.releaseAndDeploy(app)
}

// unlessTriggerError drops the error of a trigger that failed, but not that of one which could not be called.
func unlessTriggerError(err error) error {
	var failed *TriggerError
	if errors.As(err, &failed) {
		return nil
	}
	return err
}

// releaseAndDeploy is Dokku's trigger "release-and-deploy".
func (s *session) releaseAndDeploy(app string) error {
	const builder = "dockerfile"
	s.say("-----> Releasing %s...", app)
	if err := s.trigger("pre-release-builder", builder, app, s.image(app)); err != nil {
		return err
	}
	// registry's pre-release-builder calls this deprecated one, for plugins that have it.
	if err := s.trigger("pre-deploy", app, s.tag()); err != nil {
		return err
	}
	if err := s.releaseImage(app); err != nil {
		return err
	}
	if err := s.trigger("post-release-builder", builder, app, s.image(app)); err != nil {
		return err
	}
	if err := s.pushImage(app); err != nil {
		return err
	}
	if err := s.deploy(app, ""); err != nil {
		return err
	}
	s.say("=====> Application deployed:")
	return nil
}

// releaseImage puts another layer on the app's image, as builder-release does: the image's id is another one then, also
// when nothing was built. A commit has that layer in half of the time of a build.
func (s *session) releaseImage(app string) error {
	from := s.image(app)
	built, err := s.Docker.ImageInspect(s.ctx, from)
	if err != nil {
		return fmt.Errorf("rig: the image of %s: %w", app, err)
	}
	command := built.Config.Cmd
	if len(command) == 0 {
		// Docker creates no container without a command; this one does not run.
		command = []string{"none"}
	}
	made, err := s.Docker.ContainerCreate(s.ctx, &container.Config{Image: from, Cmd: command, Labels: map[string]string{Label: s.id}}, nil, nil, nil, "")
	if err != nil {
		return fmt.Errorf("rig: releasing %s: %w", from, err)
	}
	_, err = s.Docker.ContainerCommit(s.ctx, made.ID, container.CommitOptions{
		Reference: from,
		Config:    &container.Config{Labels: map[string]string{"com.dokku.image-stage": "release", "com.dokku.app-name": app}},
	})
	return errors.Join(err, s.Docker.ContainerRemove(s.ctx, made.ID, container.RemoveOptions{}))
}

// buildImage is `docker image build`. An image from scratch is imported, in a tenth of the time: its layer is the folder, its
// configuration what the rest of the Dockerfile says.
func (h *Host) buildImage(ctx context.Context, dir, ref string, labels map[string]string) error {
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[Label] = h.id
	text, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
	if err != nil {
		return err
	}
	make := h.build
	if strings.HasPrefix(string(text), fromScratch) {
		make = h.importImage
	}
	if err := make(ctx, dir, ref, string(text), labels); err != nil {
		return fmt.Errorf("rig: building %s: %w", ref, err)
	}
	return nil
}

// build has Docker do it, with the builder that needs no program of its own. It takes no step from another build: the images are those
// of hosts that remove theirs meanwhile, and while it looks through them Docker takes a missing one for an error ("unable to find
// image").
func (h *Host) build(ctx context.Context, dir, ref, _ string, labels map[string]string) error {
	folder := archive(dir, ".")
	defer folder.Close()
	response, err := h.Docker.ImageBuild(ctx, folder, build.ImageBuildOptions{
		Tags: []string{ref}, Labels: labels, NoCache: true, Remove: true, ForceRemove: true, Version: build.BuilderV1,
	})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return outcome(response.Body)
}

// importImage makes an image of one layer.
func (h *Host) importImage(ctx context.Context, dir, ref, dockerfile string, labels map[string]string) error {
	var destination string
	var changes []string
	for line := range strings.Lines(strings.TrimPrefix(dockerfile, fromScratch)) {
		line = strings.TrimSpace(line)
		if to, ok := strings.CutPrefix(line, "COPY . "); ok {
			destination = to
		} else {
			changes = append(changes, line)
		}
	}
	for key, value := range labels {
		changes = append(changes, fmt.Sprintf("LABEL %q=%q", key, value))
	}
	folder := archive(dir, destination)
	defer folder.Close()
	messages, err := h.Docker.ImageImport(ctx, image.ImportSource{Source: folder, SourceName: "-"}, ref, image.ImportOptions{Changes: changes})
	if err != nil {
		return err
	}
	defer messages.Close()
	return outcome(messages)
}

// archive is a folder as Docker reads it, at a place in the archive.
func archive(dir, place string) io.ReadCloser {
	return piped(func(to io.Writer) error {
		files := piped(func(to io.Writer) error {
			t := tar.NewWriter(to)
			return errors.Join(t.AddFS(os.DirFS(dir)), t.Close())
		})
		defer files.Close()
		return move(tar.NewWriter(to), tar.NewReader(files), place)
	})
}

// piped is what write writes.
func piped(write func(io.Writer) error) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(write(writer)) }()
	return reader
}

// move copies an archive to a place in another one.
func move(to *tar.Writer, from *tar.Reader, place string) error {
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			return to.Close()
		}
		if err != nil {
			return err
		}
		header.Name = strings.TrimPrefix(path.Join(place, header.Name), "/")
		if err := to.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(to, from); err != nil {
			return err
		}
	}
}

// outcome reads to the end what Docker says while it makes an image.
func outcome(answer io.Reader) error {
	for messages := json.NewDecoder(answer); ; {
		var message struct {
			Error string `json:"error"`
		}
		switch err := messages.Decode(&message); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case message.Error != "":
			return errors.New(message.Error)
		}
	}
}
