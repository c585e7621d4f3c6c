// Package haproxy is the engine that makes a table real with a HAProxy process of its own: it renders and validates the
// configuration, switches servers through the runtime API without a reload, reloads when listeners or slots change, and rolls
// back what fails.
//
// It must not know Dokku, Docker or PORTS files: it gets a [deploy.Table] and knows nothing of where that came from. Nor does it
// start HAProxy: a service manager does, with [Engine.Command].
package haproxy
