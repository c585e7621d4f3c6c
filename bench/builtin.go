package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"dokku-expose/bench/measure"
	"dokku-expose/internal/testcert"
)

// serveBuiltin is the project's own engine, as its daemon runs it: builtin MODE LISTEN ORIGIN [CHAIN KEY].
func serveBuiltin(ctx context.Context, args []string, _ io.Reader, _ io.Writer) error {
	var cert *testcert.Certificate
	if len(args) == 5 {
		cert = &testcert.Certificate{Chain: args[3], Key: args[4]}
		args = args[:3]
	}
	s, err := siteOf(args)
	if err != nil {
		return err
	}
	s.cert = cert
	return measure.ServeBuiltin(ctx, route(s))
}

// siteOf reads the arguments of a proxy: MODE LISTEN ORIGIN.
func siteOf(args []string) (s site, err error) {
	if len(args) != 3 {
		return s, fmt.Errorf("expected MODE LISTEN ORIGIN, got %q", args)
	}
	s.mode = mode(args[0])
	if s.listen, err = netip.ParseAddrPort(args[1]); err == nil {
		s.origin, err = netip.ParseAddrPort(args[2])
	}
	return s, err
}
