package dokku

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// appName is what Dokku takes for an existing app; new ones may have no "_" (plugins/common, IsValidAppNameOld). It admits
// nothing that a path could take for more than one name.
var appName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// ValidName returns an error for what can't be the name of an app.
func ValidName(app string) error {
	if app == "" {
		return errors.New("no app was named: name one as the first argument, or with dokku --app")
	}
	if !appName.MatchString(app) {
		return fmt.Errorf("%q can't be an app: a name begins with a lowercase letter or a digit and holds lowercase letters, "+
			"digits, dots, hyphens and underscores only", app)
	}
	return nil
}

// Apps returns the names of all apps in ascending order, as `dokku apps:list` does without its access control. A folder
// that can't be read is an error, never "no apps".
func (e Env) Apps() ([]string, error) {
	entries, err := os.ReadDir(e.Root)
	if err != nil {
		return nil, fmt.Errorf("can't list the apps: %w", err)
	}
	var apps []string
	for _, entry := range entries {
		app := entry.Name()
		if !appName.MatchString(app) {
			continue
		}
		// An app's folder may be a link to one elsewhere.
		if entry.Type()&fs.ModeSymlink != 0 {
			exists, err := e.Exists(app)
			if err != nil {
				return nil, err
			}
			if !exists {
				continue
			}
		} else if !entry.IsDir() {
			continue
		}
		apps = append(apps, app)
	}
	return apps, nil
}

// Exists tells whether there is such an app. What can't be the name of an app does not exist.
func (e Env) Exists(app string) (bool, error) {
	if !appName.MatchString(app) {
		return false, nil
	}
	info, err := os.Stat(e.appDir(app))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENAMETOOLONG):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("can't look for app %s: %w", app, err)
	}
	return info.IsDir(), nil
}

// Verify returns the error that a command gives for an app that does not exist: that of [ValidName] or [NoApp].
func (e Env) Verify(app string) error {
	if err := ValidName(app); err != nil {
		return err
	}
	exists, err := e.Exists(app)
	if err == nil && !exists {
		return NoApp(app)
	}
	return err
}

// FilesOfApps returns the apps that have a file APP+ext of their own in dir. A folder that is not there has none.
func FilesOfApps(dir, ext string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var apps []string
	for _, e := range entries {
		if app, ok := strings.CutSuffix(e.Name(), ext); ok && ValidName(app) == nil {
			apps = append(apps, app)
		}
	}
	return apps, nil
}

// appDir is for names that ValidName accepted.
func (e Env) appDir(app string) string { return filepath.Join(e.Root, app) }

// Domains are those of each app that has any (dokku domains:add), by app.
func (e Env) Domains() (map[string][]string, error) {
	apps, err := e.Apps()
	if err != nil {
		return nil, err
	}
	domains := make(map[string][]string)
	for _, app := range apps {
		text, err := os.ReadFile(filepath.Join(e.appDir(app), "VHOST"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("can't read the domains of %s: %w", app, err)
		}
		if names := strings.Fields(strings.ToLower(string(text))); len(names) > 0 {
			domains[app] = names
		}
	}
	return domains, nil
}

// CertificateFiles are where Dokku has an app's certificate and its key, both PEM, if it has any.
func (e Env) CertificateFiles(app string) (chain, key string) {
	dir := filepath.Join(e.appDir(app), "tls")
	return filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
}
