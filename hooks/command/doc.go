// Package command has a file for each subcommand of `dokku expose`, named as the subcommand, and files for what several of them share.
package command
