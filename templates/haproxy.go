package templates

import _ "embed"

// HAProxy is the configuration of HAProxy, a text/template.
//
//go:embed haproxy.cfg.tmpl
var HAProxy string
