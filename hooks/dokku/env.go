package dokku

import (
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// Plugin is the name that the plugin is installed under: its folder, the first half of its commands (expose:list) and of
// its flags (--expose-engine), the folder of its settings and of its data.
const Plugin = "expose"

// Env is what Dokku's environment variables say, with the defaults of Dokku's own start script where one is not set.
type Env struct {
	// Root (DOKKU_ROOT) holds a folder for each app.
	Root string
	// LibRoot (DOKKU_LIB_ROOT) holds the settings and the data of all plugins.
	LibRoot string
	// PluginPath (PLUGIN_PATH) holds the folders "available" and "enabled" of all plugins.
	PluginPath string
	// User and Group (DOKKU_SYSTEM_USER, DOKKU_SYSTEM_GROUP) own all of that and run the hooks.
	User, Group string
	// InitSystem (DOKKU_INIT_SYSTEM) is "sv" where runit starts the services, else usually empty.
	InitSystem string
	// PID (DOKKU_PID) is the process of the command or the deploy that a hook belongs to; 0 outside of Dokku.
	PID int
	// App (DOKKU_APP_NAME) is the app that `dokku --app` names.
	App string
	// Quiet (DOKKU_QUIET_OUTPUT) asks for nothing but what was asked for: no steps and no headings.
	Quiet bool
	// NotImplementedExit (DOKKU_NOT_IMPLEMENTED_EXIT) is the exit code of a command that is not this plugin's.
	NotImplementedExit int

	// pause waits between two looks at a file that Dokku is writing; nil is time.Sleep.
	pause func(time.Duration)
}

// FromEnviron reads the environment through getenv, which is os.Getenv but in tests. An error says which variable can't be
// right: folders must be absolute, since the working directory of a hook is arbitrary.
func FromEnviron(getenv func(string) string) (Env, error) {
	or := func(key, fallback string) string {
		if value := getenv(key); value != "" {
			return value
		}
		return fallback
	}
	e := Env{
		Root:               getenv("DOKKU_ROOT"),
		LibRoot:            or("DOKKU_LIB_ROOT", or("DOKKU_LIB_PATH", "/var/lib/dokku")),
		User:               or("DOKKU_SYSTEM_USER", "dokku"),
		Group:              or("DOKKU_SYSTEM_GROUP", "dokku"),
		InitSystem:         getenv("DOKKU_INIT_SYSTEM"),
		App:                getenv("DOKKU_APP_NAME"),
		Quiet:              getenv("DOKKU_QUIET_OUTPUT") != "",
		NotImplementedExit: 10,
	}
	e.PluginPath = or("PLUGIN_PATH", filepath.Join(e.LibRoot, "plugins"))
	if e.Root == "" {
		e.Root = "/home/dokku"
		if u, err := user.Lookup(e.User); err == nil {
			e.Root = u.HomeDir
		}
	}
	if code, err := strconv.Atoi(getenv("DOKKU_NOT_IMPLEMENTED_EXIT")); err == nil {
		e.NotImplementedExit = code
	}
	var errs []error
	if text := getenv("DOKKU_PID"); text != "" {
		pid, err := strconv.Atoi(text)
		if err != nil || pid < 1 {
			errs = append(errs, fmt.Errorf("DOKKU_PID is %q: expected the id of a process", text))
		}
		e.PID = pid
	}
	for _, dir := range []struct{ key, path string }{
		{"DOKKU_ROOT", e.Root}, {"DOKKU_LIB_ROOT", e.LibRoot}, {"PLUGIN_PATH", e.PluginPath},
	} {
		if !filepath.IsAbs(dir.path) {
			errs = append(errs, fmt.Errorf("%s is %q: expected an absolute path", dir.key, dir.path))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Env{}, err
	}
	return e, nil
}

// SettingsDir holds the plugin's settings.
func (e Env) SettingsDir() string { return filepath.Join(e.LibRoot, "config", Plugin) }

// DataDir holds all other files that the plugin keeps.
func (e Env) DataDir() string { return filepath.Join(e.LibRoot, "data", Plugin) }
