package dokku

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Place is one slot of a scaled process type, and the container that Dokku has put there.
type Place struct {
	// Process is the process type: "web".
	Process string
	// Index counts the process type's containers from 1.
	Index int
	// Dyno is Dokku's name for the place: "web.1".
	Dyno string
	// Container is the container's full id.
	Container string
}

const (
	// beingWritten is how long after its last change a file that is no whole one may be in the middle of that; look is the pause between
	// two looks at it.
	beingWritten = time.Second
	look         = 5 * time.Millisecond
)

var (
	containerFile = regexp.MustCompile(`^CONTAINER\.(([A-Za-z0-9_-]+)\.([1-9][0-9]*))$`)
	containerID   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Current returns what the app's CONTAINER files say, ordered by process type and index. That a container is named does
// not mean that it runs, or that it is there at all. An app that does not exist is a [NoApp] error.
//
// A file that can't be made sense of is an error that names it, but those that can are returned all the same.
func (e Env) Current(app string) ([]Place, error) {
	if err := ValidName(app); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(e.appDir(app))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, NoApp(app)
	}
	if err != nil {
		return nil, fmt.Errorf("can't read the containers of %s: %w", app, err)
	}
	var places []Place
	var errs []error
	add := func(file, process string, index int) {
		id, err := e.readContainer(app, file)
		if err != nil {
			errs = append(errs, err)
		}
		if id != "" {
			places = append(places, Place{
				Process: process, Index: index, Dyno: process + "." + strconv.Itoa(index), Container: id,
			})
		}
	}
	former := false
	for _, entry := range entries {
		if entry.Name() == "CONTAINER" {
			former = true
		}
		if match := containerFile.FindStringSubmatch(entry.Name()); match != nil {
			if index, err := strconv.Atoi(match[3]); err == nil {
				add(entry.Name(), match[2], index)
			}
		}
	}
	// Before it could scale, Dokku wrote one CONTAINER for the one container; the next deploy removes it.
	if former && len(places) == 0 {
		add("CONTAINER", "web", 1)
	}
	slices.SortFunc(places, func(a, b Place) int {
		return cmp.Or(cmp.Compare(a.Process, b.Process), cmp.Compare(a.Index, b.Index))
	})
	return places, errors.Join(errs...)
}

// readContainer returns "" for a file that is empty, as Dokku itself takes it, or gone.
func (e Env) readContainer(app, name string) (string, error) {
	path := filepath.Join(e.appDir(app), name)
	// Dokku writes the file in place: between its truncation and the write a reader finds less than an id. That takes
	// microseconds, on a busy host more, and to believe it would take a live container for gone. One that is old stays as it is.
	pause := time.Sleep
	if e.pause != nil {
		pause = e.pause
	}
	for try := 0; ; try++ {
		text, err := readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("can't read a container of %s: %w", app, err)
		}
		id := firstLine(text)
		if containerID.MatchString(id) {
			return id, nil
		}
		if info, err := os.Stat(path); err == nil && try < int(beingWritten/look) && time.Since(info.ModTime()) < beingWritten {
			pause(look)
			continue
		}
		if id == "" {
			return "", nil
		}
		if len(id) > 100 {
			id = id[:100] + "..."
		}
		return "", fmt.Errorf("%s: expected the id of a container, found %q; have it written anew: dokku ps:restart %s", path, id, app)
	}
}
