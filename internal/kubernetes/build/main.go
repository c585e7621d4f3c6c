// Command build builds the programs of Kubernetes that tests run, unless they are there, and prints their folder.
package main

import (
	"context"
	"fmt"
	"os"

	"dokku-expose/internal/kubernetes"
)

func main() {
	dir, err := kubernetes.Build(context.Background(), os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		os.Exit(1)
	}
	fmt.Println(dir)
}
