// Package portsfile is the PORTS language: the file in an app's repository that says which public TCP and UDP ports the app wants.
//
//	25:5025                  # PUBLIC:PRIVATE: clients connect to port 25, the app listens on 5025 in its container
//	127.0.0.1:5432:5432      # BIND:PUBLIC:PRIVATE: only on this address of the host
//	[::1]:5432:5432          # an IPv6 bind address is written in brackets
//	6000-6010:7000-7010      # ranges of equal length: 6000 leads to 7000, 6010 to 7010
//	993:5993 process=imap    # options follow after blanks
//	3306:3306 allow=192.0.2.0/24,2001:db8::/32 max-connections=100 idle-timeout=10m
//
// There is one mapping a line; "#" starts a comment anywhere, blank lines count for nothing, blanks are spaces and tabs.
// Without a bind address a mapping means every address of the host, IPv4 and IPv6; 0.0.0.0 means every IPv4 address only,
// [::] every IPv6 address only. A file is UTF-8; a byte order mark at its start and CRLF line ends are accepted.
//
// The options and what their values mean are a parameter of the [Language]; only process belongs to it. [Language.Parse] reads
// a file and reports all that is wrong with it, [Format] writes the canonical form. What is read is made safe to use: numbers are
// ports, process types are names that Dokku allows, no public address is mapped twice, and neither the file nor the number of its
// ports is larger than [MaxSize] and [MaxPorts]. Whether a host grants what is asked for is no question here: the package knows
// nothing of Dokku, other apps, containers or proxies, and imports nothing of this module.
package portsfile
