// Package hooks is Dokku's side of dokku-expose: the triggers of a deploy and of an app's life, the subcommands of
// `dokku expose`, and the program's own commands. It wires the other rooms together; only here are Dokku, Docker, the
// model and the engines known at once.
//
// A hook does one of two things. It writes down what Dokku tells (a PORTS that was read, a deploy that began), or it has
// the table reconciled. Whatever it is, an app without public ports costs it no more than a look at two files.
package hooks
