package portsfile_test

import (
	"fmt"

	"dokku-expose/deploy"
)

func Example() {
	entries, err := deploy.ParsePorts("PORTS", `
		25:5025                  # SMTP
		6000-6001:7000-7001  process=media
	`)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range entries {
		for public, private := range e.Ports() {
			fmt.Printf("line %d: clients connect to %d, process type %s listens on %d\n", e.Line, public, e.Process, private)
		}
	}
	// Output:
	// line 2: clients connect to 25, process type web listens on 5025
	// line 3: clients connect to 6000, process type media listens on 7000
	// line 3: clients connect to 6001, process type media listens on 7001
}

func Example_errors() {
	_, err := deploy.ParsePorts("PORTS", "25\n6000-6010:7000-7009\n[::1]:26:70000 proces=imap\n")
	fmt.Println(err)
	// Output:
	// PORTS:1:1: "25" is not a mapping: expected PUBLIC:PRIVATE or BIND:PUBLIC:PRIVATE, such as 25:5025, 53:5353/udp or 127.0.0.1:5432:5432
	// PORTS:2:11: ranges must be of equal length: 6000-6010 has 11, 7000-7009 has 10
	// PORTS:3:10: port 70000 is out of range: expected a number from 1 to 65535
	// PORTS:3:16: unknown option "proces": known are process=TYPE, host=NAME,..., allow=NETWORK,..., proxy-protocol=off|v1|v2, accept-proxy=NETWORK,..., max-connections=NUMBER, rate=NUMBER/10s, idle-timeout=TIME, balance=leastconn|roundrobin|source, check=connect|off, tls=off|terminate|passthrough, alpn=PROTOCOL,..., starttls=off|postgres
}
