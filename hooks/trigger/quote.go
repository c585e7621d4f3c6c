package trigger

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

const (
	// quotedLines and quotedBytes bound what is printed of an app's own output, quotedWidth each line of it, in characters.
	quotedLines, quotedBytes, quotedWidth = 20, 8 << 10, 500
	// tabWidth is what a tab is printed as, in blanks.
	tabWidth = 4
)

// stoppedEarly says how a new container ended before it served.
func stoppedEarly(ctx context.Context, h *host.Host, c deploy.Endpoint) error {
	how := fmt.Sprintf("(%s)", c.State)
	if end, err := h.End(ctx, c.ID); err == nil && !end.At.IsZero() {
		how = end.String()
	}
	return fmt.Errorf("%s: container %.12s (%s) has stopped %s, before its private ports accepted connections", c.App, c.ID, c.Dyno, how)
}

// quote prints the last lines of a new container that fails its deploy. Dokku prints them only when its own check fails,
// removes the container, and `dokku logs` shows the old one.
func quote(ctx context.Context, h *host.Host, c deploy.Endpoint) {
	client, err := h.Docker()
	var lines []string
	if err == nil {
		lines, err = client.LastLines(ctx, c.ID, quotedLines, quotedBytes)
	}
	if err != nil {
		h.Out.Warn("%v", err)
		return
	}
	if len(lines) == 0 {
		h.Out.Warn("Container %.12s (%s) has written nothing to its standard output and error", c.ID, c.Dyno)
		return
	}
	h.Out.Warn("The last lines of container %.12s (%s):", c.ID, c.Dyno)
	for _, line := range lines {
		h.Out.Warn("    %s", quoted(line))
	}
}

// quoted is a line of an app's output as it can be printed: short, and without the end of the line that terminals have. The
// printer makes the rest harmless.
func quoted(line string) string {
	line = strings.TrimSuffix(line, "\r")
	if utf8.RuneCountInString(line) > quotedWidth {
		line = string([]rune(line)[:quotedWidth]) + "..."
	}
	return strings.ReplaceAll(line, "\t", strings.Repeat(" ", tabWidth))
}
