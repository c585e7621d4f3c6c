// Package proxy is the built-in engine: it makes a table real by itself, on a host that has no other proxy.
//
// A [Server] listens on the public addresses of the table that was applied last, connects each new connection to one of the servers of
// its route, and lets package proxy/tcp move the bytes. It is a [deploy.Engine] in its own process. Package proxy/control is the daemon
// around it, with which other processes talk, and which passes the listening sockets on when a new daemon starts ([Server.HandOver],
// [Server.TakeOver]): the old server stays until its connections have closed, and treats them as its successor's tables say
// ([Server.Follow]).
//
// The package gets tables and nothing else: it must not know Dokku, Docker or PORTS files, nor the daemon that it is part of.
package proxy
