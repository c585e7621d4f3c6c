// Package host is the plugin's view of one Dokku host: its settings, what it remembers of each app, Docker, the engines, and the lock under
// which all of that changes. Triggers, commands and the daemon work with a [Host].
package host
