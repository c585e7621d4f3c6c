package dokku

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// DockerOption is one that `docker-options:add` gave to the containers of an app's deploys.
type DockerOption struct {
	// Process is the process type that it is for, "" for all.
	Process string
	Text    string
}

// Removal is the command that takes the option away.
func (o DockerOption) Removal(app string) string {
	process := ""
	if o.Process != "" {
		process = "--process " + o.Process + " "
	}
	return fmt.Sprintf("dokku docker-options:remove %s%s deploy %q", process, app, o.Text)
}

// anyProcess is Dokku's name for all process types in the names of the properties.
const anyProcess = "_default_"

// Publishing returns the app's options that publish a port of the host, for a port that Docker publishes. The protocol has Docker's name,
// "tcp" or "udp". Dokku keeps options in the property PROCESS.deploy, one a line (plugins/docker-options, propertyKey), and kept them in
// a file of the app before 0.38.
func (e Env) Publishing(app, protocol string, port uint16) ([]DockerOption, error) {
	if err := ValidName(app); err != nil {
		return nil, err
	}
	dir := filepath.Join(e.LibRoot, "config", "docker-options", app)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := map[string]string{filepath.Join(e.appDir(app), "DOCKER_OPTIONS_DEPLOY"): ""}
	for _, entry := range entries {
		if process, ok := strings.CutSuffix(entry.Name(), ".deploy"); ok {
			files[filepath.Join(dir, entry.Name())] = strings.TrimPrefix(process, anyProcess)
		}
	}
	var options []DockerOption
	for _, path := range slices.Sorted(maps.Keys(files)) {
		process := files[path]
		text, err := readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("can't read the docker-options of %s: %w", app, err)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); publishes(line, protocol, port) {
				options = append(options, DockerOption{process, line})
			}
		}
	}
	return options, nil
}

// publishes tells whether options of the docker command publish the port: "-p 2780:5025", "--publish=127.0.0.1:2780:5025/tcp",
// "-p 2780-2790:5025-5035/udp".
func publishes(options, protocol string, port uint16) bool {
	published := false
	for _, word := range strings.Fields(strings.NewReplacer("=", " ", `"`, "", "'", "").Replace(options)) {
		// A blank between -p and its value is optional.
		value, short := strings.CutPrefix(word, "-p")
		switch {
		case word == "--publish", word == "-p":
			published = true
			continue
		case !published && !short:
			continue
		case !published:
			word = value
		}
		published = false
		addresses, of, _ := strings.Cut(word, "/")
		parts := strings.Split(addresses, ":")
		if len(parts) < 2 || !strings.EqualFold(cmp.Or(of, "tcp"), protocol) {
			continue
		}
		first, last, isRange := strings.Cut(parts[len(parts)-2], "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, lastErr := strconv.ParseUint(last, 10, 16)
		if err == nil && lastErr == nil && from <= uint64(port) && uint64(port) <= to {
			return true
		}
	}
	return false
}
