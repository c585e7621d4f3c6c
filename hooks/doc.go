// Package hooks is Dokku's side of dokku-expose: it calls a trigger, a subcommand of `dokku expose`, the daemon, or one of the program's own
// commands, by the name that the program is called as.
//
// A trigger or a command does one of two things. It writes down what Dokku tells (a PORTS that was read, a deploy that began), or it has
// the table reconciled. Either way an app without public ports costs it no more than a look at two files.
package hooks
