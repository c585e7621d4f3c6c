package hooks_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Of changes at the same time none is lost.
func TestAddsAtOnce(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.push("mail", source("v1"))
	var lines []string
	for range 8 {
		lines = append(lines, lead(h.port(), private))
	}
	var all sync.WaitGroup
	for _, line := range lines {
		all.Go(func() { h.expose(0, "add", "mail", line) })
	}
	all.Wait()
	for _, line := range lines {
		h.wants(h.expose(0, "report", "mail").Stdout, strings.TrimSuffix(line, fmt.Sprint(":", private)))
	}
	h.expose(0, "check")
}
