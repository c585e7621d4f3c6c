// Package proxy is the built-in engine: a daemon that makes a table real by itself, on a host that has no other proxy.
//
// [Run] is the daemon. Its [Server] listens on the public addresses of the table that was applied last, connects each new
// connection to one of the servers of its route, and lets package proxy/tcp move the bytes. Hooks reach it through a [Client],
// over a Unix socket; both are a [deploy.Engine]. A daemon that starts while another one runs takes over from it: the listening
// sockets are passed on, and the old one stays until its connections have ended.
//
// The package gets tables and nothing else: it must not know Dokku, Docker or PORTS files, nor where a table comes from. That
// is what [Options.Reconcile] is for.
package proxy
