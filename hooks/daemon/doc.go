// Package daemon is the loop that keeps public ports up to date: it watches Docker and the engine, reconciles, and serves the statistics page.
package daemon
