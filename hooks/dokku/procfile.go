package dokku

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
)

// processLine begins a line of a Procfile (josegonzalez/go-procfile-util, ParseProcfile).
var processLine = regexp.MustCompile(`(?m)^[ \t]*([A-Za-z0-9_-]+):`)

// DeployedProcesses returns the process types of the Procfile that the deploy which the hook belongs to brings, in
// ascending order. known is false outside of a deploy from source, and where the source has no Procfile: Dokku then deploys
// any process type that it is told to scale.
//
// Dokku extracts the file before the build, from wherever `procfile-path` says, to one that has its own process id in the
// name (plugins/ps, TriggerCorePostExtract).
func (e Env) DeployedProcesses(app string) (types []string, known bool, err error) {
	if err := ValidName(app); err != nil || e.PID == 0 {
		return nil, false, err
	}
	text, err := readFile(filepath.Join(e.LibRoot, "data", "ps", app, fmt.Sprintf("Procfile.%d", e.PID)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("can't read the Procfile of %s: %w", app, err)
	}
	for _, match := range processLine.FindAllSubmatch(text, -1) {
		types = append(types, string(match[1]))
	}
	slices.Sort(types)
	return slices.Compact(types), true, nil
}
