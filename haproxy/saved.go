package haproxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"dokku-expose/deploy"
)

// HAProxy reports servers, but no options or process types. A JSON file beside the configuration keeps them. It is written first, with
// an entry for the new configuration and one for the configuration that is replaced, each with the hash of the text. So the configuration
// in place has its entry even after a crash between the two writes, and a configuration edited by somebody else has none.

// saved is an entry of the JSON file: one configuration as data.
type saved struct {
	// SHA256 is the hash of the configuration's text, Structure identifies the configuration apart from changes that need no reload.
	SHA256, Structure string
	// Routes are in the order of the proxies. App is the proxy's name here, which is valid UTF-8 for every app. Servers are by slot,
	// the zero value in free slots, and without Proven, which holds for one reconcile only.
	Routes []deploy.Route
}

// files are the configuration file and the entries of the JSON file, each entry as it is written.
type files struct {
	text    []byte   // the configuration, empty when there is no file
	entries [][]byte // the entry of text, then others; empty when text has no entry
}

// own returns the entry of text, or nothing when it has none.
func (f files) own() [][]byte { return f.entries[:min(1, len(f.entries))] }

// saved decodes the entries. It returns none when one can't be decoded. That includes one with unknown fields, since an option of a newer
// version must not get lost silently.
func (f files) saved() (all []saved) {
	for _, entry := range f.entries {
		var s saved
		decoder := json.NewDecoder(bytes.NewReader(entry))
		decoder.DisallowUnknownFields()
		if decoder.Decode(&s) != nil {
			return nil
		}
		all = append(all, s)
	}
	return all
}

// routesOf returns the routes of what runs, nil when they are unknown. After a crash before a reload, these are in the older entry.
func routesOf(live *snapshot, all []saved) []deploy.Route {
	for _, s := range all {
		if s.Structure == live.structure {
			return s.Routes
		}
	}
	return nil
}

// newFiles are a configuration and its entry. The hash comes first, by which [Engine.readFiles] knows the entry.
func newFiles(text []byte, structure string, routes []deploy.Route) (files, error) {
	entry, err := json.Marshal(saved{hash(text), structure, routes})
	return files{text, [][]byte{entry}}, err
}

// Entries stand between these. A string in JSON has no line break.
const entriesBegin, entriesNext, entriesEnd = "[", ",\n", "]"

// savedRoutes returns the routes of proxies as the JSON file has them.
func savedRoutes(proxies []proxy) []deploy.Route {
	var routes []deploy.Route
	for _, p := range proxies {
		r := p.route
		// A bundle holds the certificate.
		r.Certificate = deploy.Certificate{}
		r.App, r.Servers = p.name, make([]deploy.Server, len(p.slots))
		for i, server := range p.slots {
			if server != nil {
				r.Servers[i] = *server
				r.Servers[i].Proven = false
			}
		}
		routes = append(routes, r)
	}
	return routes
}

// equal tells whether configurations and their entries are the same.
func (f files) equal(o files) bool { return slices.EqualFunc(f.own(), o.own(), bytes.Equal) }

func hash(text []byte) string { return fmt.Sprintf("%x", sha256.Sum256(text)) }

// savedFile is the path of the JSON file.
func (e *Engine) savedFile() string {
	return strings.TrimSuffix(e.cfg.ConfigFile, filepath.Ext(e.cfg.ConfigFile)) + ".json"
}

// readFiles reads both files. A missing file is no error, and neither is JSON that can't be decoded: the next Apply replaces it.
func (e *Engine) readFiles() (files, error) {
	var texts [2][]byte
	for i, path := range []string{e.cfg.ConfigFile, e.savedFile()} {
		var err error
		if texts[i], err = os.ReadFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return files{}, fmt.Errorf("HAProxy's configuration: %w", err)
		}
	}
	f := files{text: texts[0]}
	list := bytes.TrimSuffix(bytes.TrimPrefix(texts[1], []byte(entriesBegin)), []byte(entriesEnd))
	entries, own := bytes.Split(list, []byte(entriesNext)), fmt.Appendf(nil, `{"SHA256":%q`, hash(f.text))
	if i := slices.IndexFunc(entries, func(entry []byte) bool { return bytes.HasPrefix(entry, own) }); i >= 0 {
		f.entries = slices.Concat(entries[i:i+1], entries[:i], entries[i+1:])
	}
	return f, nil
}

// write replaces the files now with next.
func (e *Engine) write(next, now files) error {
	entries := next.own()
	if !bytes.Equal(next.text, now.text) {
		entries = slices.Concat(entries, now.own())
	}
	if err := e.save(entries); err != nil {
		return err
	}
	return e.replace(e.cfg.ConfigFile, next.text)
}

// settle leaves one entry, once now is in force: nothing of an app that is gone stays behind. A write that fails costs nothing else, and the
// next Apply tries again.
func (e *Engine) settle(now, former files) {
	if len(former.entries) > 1 || !former.equal(now) {
		_ = e.save(now.own())
	}
}

func (e *Engine) save(entries [][]byte) error {
	return e.replace(e.savedFile(), slices.Concat([]byte(entriesBegin), bytes.Join(entries, []byte(entriesNext)), []byte(entriesEnd)))
}

// replace writes one of the files. Both are for their owner and the folder's group only, which is HAProxy's: the configuration holds a
// password. A file gets that group by being made in the folder, not by being moved there from /tmp.
func (e *Engine) replace(path string, text []byte) error {
	err := renameio.WriteFile(path, text, 0o640, renameio.IgnoreUmask(), renameio.WithTempDir(filepath.Dir(e.cfg.ConfigFile)))
	if err == nil {
		return nil
	}
	// The temporary file has another name each time, which would make the same error look like a new one.
	if wrong := (*fs.PathError)(nil); errors.As(err, &wrong) {
		err = fmt.Errorf("%s: %w", wrong.Op, wrong.Err)
	}
	return fmt.Errorf("HAProxy's configuration %s can't be written: %w", path, err)
}
