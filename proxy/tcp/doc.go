// Package tcp is the data path of the built-in engine: sockets that listen ([Listener]) and connect ([Dial]), and [Relay], which
// moves bytes between two of them.
//
// All of it runs in event loops over epoll(7), one for each core, that start when first needed. A connection has no goroutine, and
// while nothing is on the way no buffer: two descriptors and some hundred bytes. What is called in a loop, as the methods say,
// must not block, or all connections of the loop wait with it.
//
// It is built on the system calls rather than on package net, for what net does for each connection: about ten system calls
// to set up what is inherited or not needed here, and a pipe for splice(2) that is taken before there is anything to move.
//
// The package must not know routes, apps or containers, and it keeps no connection that its caller does not know of: who
// gets a [Conn] closes it, or hands it to a Relay, which does.
package tcp
