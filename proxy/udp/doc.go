// Package udp sends and receives datagrams, many with each system call.
//
// A [Socket] is a public address, or one end of a session towards a container. A [Batch] is what is received with one call, and sent on
// with another, without a copy in between. Neither blocks, and neither may be used by two goroutines at the same time.
//
// It must know nothing of routes, sessions and apps.
package udp
