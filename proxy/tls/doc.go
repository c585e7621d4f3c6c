// Package tls is TLS of the built-in engine: a [Server] shows clients an app's certificate, and a [Relay] moves bytes between such a
// client and a server that speaks none.
//
// The protocol is crypto/tls's. It wants connections of package net, and a goroutine for each direction of one, so that nothing of this
// runs in the loops of package tcp: connections without TLS cost what they did.
//
// The package must not know routes, apps or containers.
package tls
