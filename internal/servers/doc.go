// Package servers has tests with real servers behind both engines, for what test apps do not feel: MariaDB counts connections that
// end before a login, Postfix reads the PROXY protocol, an FTP server opens a port for one connection. They run as processes on loopback
// addresses.
package servers
