package settings

import (
	"cmp"
	"fmt"
)

// Origin says where a value in force comes from.
type Origin string

// Where a value can come from: see [Store.Effective].
const (
	FromApp     Origin = "app"
	FromGlobal  Origin = "global"
	FromDefault Origin = "default"
)

// Explained is a setting in force, for people.
type Explained struct {
	Key Key
	// App and Global are the texts as they were set for the app and for the host, "" where it is not set.
	App, Global string
	// Value is the text in force: the app's, else the host's, else the default.
	Value  string
	Origin Origin
}

// Effective returns the values in force for an app: what is set for the app, else for the host, else the default. The
// app's own allowed-ports are an exception made for it: ports that it may have beside those that all apps may, reserved
// ones too. For [Global] it returns the values of an app that has no settings of its own.
//
// An error names the file. One of the host's file concerns all apps.
func (s Store) Effective(app string) (Values, error) {
	own, global, err := s.both(app)
	if err != nil {
		return Values{}, err
	}
	return values(own, global)
}

// Reading is the settings at one moment. The host's are read once for all apps.
type Reading struct {
	store  Store
	global map[string]string
	// Host are the values in force for an app that has no settings of its own.
	Host Values
}

// Read reads the host's settings. An error concerns all apps.
func (s Store) Read() (*Reading, error) {
	global, err := s.LoadGlobal()
	if err != nil {
		return nil, err
	}
	host, err := values(nil, global)
	return &Reading{s, global, host}, err
}

// App reads the settings of an app: the values in force, as [Store.Effective] returns them, and what is set for the app alone. With an error
// the values are the host's, and the rest is what can be read.
func (r *Reading) App(name string) (Values, App, error) {
	set, err := r.store.Load(name)
	if err != nil || len(set.Settings) == 0 {
		return r.Host, set, err
	}
	own, err := values(set.Settings, r.global)
	if err != nil {
		return r.Host, set, err
	}
	return own, set, nil
}

// Defaults returns the values where nothing is set.
func Defaults() Values {
	v, err := values(nil, nil)
	if err != nil {
		panic(err) // A default that its own key refuses: the tests know them all.
	}
	return v
}

func values(own, global map[string]string) (v Values, err error) {
	for _, e := range explain(own, global) {
		if e.Value == "" {
			continue
		}
		if err := e.Key.put(&v, e.Value); err != nil {
			return Values{}, fmt.Errorf("%s: %w", e.Key.Name, err)
		}
		if (e.Key.Name == allowedPorts || e.Key.Name == allowedHosts) && e.Origin == FromApp {
			// It is an exception, beside what goes for all apps.
			if e.Key.Name == allowedPorts {
				v.Policy.Own = v.Policy.Allowed
			} else {
				v.Policy.OwnNames = v.Policy.Names
			}
			if err := e.Key.put(&v, cmp.Or(e.Global, e.Key.Default)); err != nil {
				return Values{}, fmt.Errorf("%s: %w", e.Key.Name, err)
			}
		}
	}
	return v, nil
}

// Explain returns all settings that there are for an app, or for the host ([Global]), with where each comes from, in the
// order of the table. Those of the host that an app can't have are left out of the app's.
func (s Store) Explain(app string) ([]Explained, error) {
	own, global, err := s.both(app)
	if err != nil {
		return nil, err
	}
	var explained []Explained
	for _, e := range explain(own, global) {
		if e.Key.in(app) {
			explained = append(explained, e)
		}
	}
	return explained, nil
}

// both loads the settings of the app and of the host.
func (s Store) both(app string) (own, global map[string]string, err error) {
	if global, err = s.LoadGlobal(); err != nil || app == Global {
		return nil, global, err
	}
	loaded, err := s.Load(app)
	return loaded.Settings, global, err
}

func explain(own, global map[string]string) []Explained {
	explained := make([]Explained, len(keys))
	for i, key := range keys {
		e := Explained{Key: key, App: own[key.Name], Global: global[key.Name], Value: key.Default, Origin: FromDefault}
		switch {
		case e.App != "":
			e.Value, e.Origin = e.App, FromApp
		case e.Global != "":
			e.Value, e.Origin = e.Global, FromGlobal
		}
		explained[i] = e
	}
	return explained
}
