package main

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// servePlain is the proxy that everybody writes first in Go: plain MODE LISTEN ORIGIN.
func servePlain(ctx context.Context, args []string, _ io.Reader, _ io.Writer) error {
	s, err := siteOf(args)
	if err != nil {
		return err
	}
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(s.listen))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	for {
		client, err := ln.AcceptTCP()
		switch {
		case err == nil:
			go relay(client, s.origin)
		case ctx.Err() != nil:
			return nil
		default:
			// Too many files are open.
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func relay(client *net.TCPConn, origin netip.AddrPort) {
	defer client.Close()
	server, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(origin))
	if err != nil {
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{client, server}, {server, client}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			_ = way[1].CloseWrite()
		})
	}
	both.Wait()
}
