// Command containers prints what package docker finds, as JSON. A test runs it inside a container, where Dokku may run too.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"dokku-expose/deploy/source/docker"
)

func main() {
	c, err := docker.New()
	if err == nil {
		var found any
		if found, err = c.Endpoints(context.Background()); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(found)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
