// Package tcp is the data path of the built-in engine: sockets that listen, connect and are reset, and [Relay], which moves
// bytes between two of them.
//
// It is built on the system calls rather than on package net, for what net does for each connection: about ten system calls
// to set up what is inherited or not needed here, and a pipe for splice(2) that is taken before there is anything to move, so
// that an idle connection costs six descriptors. Here it costs two.
//
// The package must not know routes, apps or containers, and it keeps no connection that its caller does not know of: who
// opens a [Conn] closes it, or hands it to Relay, which does.
package tcp
