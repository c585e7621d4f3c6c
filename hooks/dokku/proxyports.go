package dokku

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ProxyPort is a port of the host that Dokku's own proxy listens on for an app, or will at the app's next deploy.
type ProxyPort struct {
	App string
	// Scheme is "http", "https", "grpc" or "grpcs".
	Scheme string
	// Host is the port that the proxy listens on, Container the one that the app does.
	Host, Container uint16
	// Detected tells that nobody set it: Dokku derived it from an EXPOSE of the app's image or from its defaults.
	// `dokku ports:set` replaces all that is detected.
	Detected bool
}

// String returns the mapping as `dokku ports:report` writes it: "http:80:5000".
func (p ProxyPort) String() string { return fmt.Sprintf("%s:%d:%d", p.Scheme, p.Host, p.Container) }

// ProxyPorts returns what Dokku's proxies listen on for all apps of this host.
//
// These are the mappings of apps that nginx serves, those that Dokku detected where none are set (plugins/ports,
// TriggerPortsGet); an app whose proxy is disabled has none, since its nginx.conf is deleted then. The other proxies that
// Dokku knows listen on 80 and 443 only, whatever the mappings say, and apps of other schedulers are not served from this
// host's nginx. A proxy that Dokku does not know is taken to listen on all that is mapped. An https mapping counts without a
// certificate too, since it becomes real with `certs:add`, and udp never.
//
// What is wrong with an app's files is part of the error, but the ports of all others are returned all the same.
func (e Env) ProxyPorts() ([]ProxyPort, error) {
	apps, err := e.Apps()
	if err != nil {
		return nil, err
	}
	var ports []ProxyPort
	var errs []error
	for _, app := range apps {
		own, err := e.proxyPorts(app)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ports = append(ports, own...)
	}
	return ports, errors.Join(errs...)
}

func (e Env) proxyPorts(app string) ([]ProxyPort, error) {
	if served, err := e.proxyServes(app); !served || err != nil {
		return nil, err
	}
	text, err := e.property("ports", app, "map")
	if err != nil {
		return nil, err
	}
	ports := parsePortMap(app, text, false)
	if len(ports) > 0 {
		return onlyTCP(ports), nil
	}
	ports, err = e.detectedPorts(app)
	return onlyTCP(ports), err
}

// proxyServes tells whether a proxy opens the mapped ports for the app.
func (e Env) proxyServes(app string) (bool, error) {
	disabled, err := e.formerVar("proxy", app, "disabled", "DOKKU_DISABLE_PROXY")
	// The former variable meant it with any value.
	if err != nil || disabled != "" && disabled != "false" {
		return false, err
	}
	kind, err := e.formerVar("proxy", app, "type", "DOKKU_APP_PROXY_TYPE")
	if kind == "" && err == nil {
		kind, err = e.formerVar("proxy", Global, "type", "DOKKU_PROXY_TYPE")
	}
	if err != nil {
		return false, err
	}
	switch kind {
	case "caddy", "haproxy", "openresty", "traefik":
		return false, nil
	}
	scheduler, err := e.Scheduler(app)
	return scheduler == DockerLocal || scheduler == "null", err
}

// detectedPorts follows plugins/ports/functions.go, getDetectedPortMaps.
func (e Env) detectedPorts(app string) ([]ProxyPort, error) {
	text, err := e.property("ports", app, "map-detected")
	if err != nil {
		return nil, err
	}
	ports := parsePortMap(app, text, true)
	if len(ports) == 0 {
		base, err := e.proxyPort(app, "proxy-port", "DOKKU_PROXY_PORT", 80)
		if err != nil {
			return nil, err
		}
		ports = []ProxyPort{{App: app, Scheme: "http", Host: base, Container: 5000, Detected: true}}
	}
	secure, err := e.hasCertificate(app)
	if !secure || err != nil {
		return ports, err
	}
	base, err := e.proxyPort(app, "proxy-ssl-port", "DOKKU_PROXY_SSL_PORT", 443)
	if err != nil {
		return nil, err
	}
	// With a certificate Dokku adds https beside port 80, or else turns all http into https where it is.
	var added []ProxyPort
	for _, p := range ports {
		if p.Scheme == "http" && p.Host == 80 {
			p.Scheme, p.Host = "https", base
			added = append(added, p)
		}
	}
	if len(added) == 0 {
		for i := range ports {
			if ports[i].Scheme == "http" {
				ports[i].Scheme = "https"
			}
		}
	}
	return append(ports, added...), nil
}

// proxyPort is the port that Dokku gives an app that maps none: the app's, the host's or the fallback. It is a random high
// one for apps without a domain.
func (e Env) proxyPort(app, key, variable string, fallback uint16) (uint16, error) {
	for _, scope := range []string{app, Global} {
		value, err := e.formerVar("proxy", scope, key, variable)
		if err != nil {
			return 0, err
		}
		if port, err := strconv.ParseUint(value, 10, 16); err == nil && port > 0 {
			return uint16(port), nil
		}
	}
	return fallback, nil
}

func (e Env) hasCertificate(app string) (bool, error) {
	for _, name := range []string{"server.crt", "server.key"} {
		_, err := os.Stat(filepath.Join(e.appDir(app), "tls", name))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("can't look for a certificate of %s: %w", app, err)
		}
	}
	return true, nil
}

// parsePortMap reads "SCHEME:HOST:CONTAINER" mappings, one a line. What is none is passed over, as Dokku does.
func parsePortMap(app, text string, detected bool) []ProxyPort {
	var ports []ProxyPort
	for _, field := range strings.Fields(text) {
		parts := strings.Split(field, ":")
		if len(parts) != 3 {
			continue
		}
		host, err := strconv.ParseUint(parts[1], 10, 16)
		if err != nil || host == 0 {
			continue
		}
		container, err := strconv.ParseUint(parts[2], 10, 16)
		if err != nil || container == 0 {
			continue
		}
		ports = append(ports, ProxyPort{
			App: app, Scheme: parts[0], Host: uint16(host), Container: uint16(container), Detected: detected,
		})
	}
	return ports
}

// onlyTCP leaves out the schemes that Dokku's nginx template makes no listener for.
func onlyTCP(ports []ProxyPort) []ProxyPort {
	var tcp []ProxyPort
	for _, p := range ports {
		switch p.Scheme {
		case "http", "https", "grpc", "grpcs":
			tcp = append(tcp, p)
		}
	}
	return tcp
}
