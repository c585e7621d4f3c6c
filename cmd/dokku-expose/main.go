// Command dokku-expose gives Dokku apps public TCP and UDP ports without downtime. Dokku calls it through links with the names of
// its triggers and subcommands; run by hand, `dokku-expose help` lists its own commands.
package main

import (
	"os"

	"dokku-expose/hooks"
)

func main() {
	os.Exit(hooks.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
