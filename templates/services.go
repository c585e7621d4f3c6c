package templates

import "embed"

// Services holds the files of service managers that keep HAProxy running, text/template each.
//
//go:embed dokku-expose-haproxy.service dokku-expose-haproxy.run
var Services embed.FS
