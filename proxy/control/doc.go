// Package control is the daemon around the built-in engine's server, and the client with which hooks reach it.
//
// [Run] is a daemon's life: it answers at a Unix socket, the control socket, and applies the tables that come there to its
// [proxy.Server]. A [Client] is that daemon as a [deploy.Engine]. A daemon that starts while another one runs takes over from it: the
// listening sockets are passed on, and the predecessor stays until its connections have closed. It follows its successor meanwhile: its
// connections are treated as the successor's tables say. [Supervise] is the process that a service manager restarts without any of that
// being lost.
//
// The package knows nothing of connections and routes: that is package proxy's. It must not know Dokku, Docker or PORTS files, nor where
// a table comes from: that is what [Options.Reconcile] is for.
package control
