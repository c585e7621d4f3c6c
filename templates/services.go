// Package templates holds the texts that the program renders: HAProxy's configuration and the service manager's files. It knows
// nothing of what is put into them.
package templates

import "embed"

// Services holds the files of service managers, for HAProxy and for the daemon, text/template each.
//
//go:embed dokku-expose-haproxy.service dokku-expose-haproxy.run dokku-expose.service dokku-expose.run
var Services embed.FS

// Entry is the manifest of a cluster's entry hosts, a text/template of YAML.
//
//go:embed entry.yaml.tmpl
var Entry string
