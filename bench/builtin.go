package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"dokku-expose/bench/measure"
	"dokku-expose/internal/testcert"
)

// serveBuiltin is the project's own engine, as its daemon runs it: builtin LISTEN ORIGIN [CHAIN KEY].
func serveBuiltin(ctx context.Context, args []string, _ io.Reader, _ io.Writer) error {
	var cert *testcert.Certificate
	if len(args) == 4 {
		cert = &testcert.Certificate{Chain: args[2], Key: args[3]}
		args = args[:2]
	}
	listen, origin, err := addresses(args)
	if err != nil {
		return err
	}
	return measure.ServeBuiltin(ctx, route(site{listen: listen, origin: origin, cert: cert}))
}

// addresses are the arguments of a proxy: LISTEN ORIGIN.
func addresses(args []string) (listen, origin netip.AddrPort, err error) {
	if len(args) != 2 {
		return listen, origin, fmt.Errorf("expected LISTEN ORIGIN, got %q", args)
	}
	if listen, err = netip.ParseAddrPort(args[0]); err == nil {
		origin, err = netip.ParseAddrPort(args[1])
	}
	return listen, origin, err
}
