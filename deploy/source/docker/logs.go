package docker

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

const (
	// tailTimeout bounds LastLines.
	tailTimeout = 10 * time.Second
	// tailRead is how many bytes it reads at the most, for lines can be of any length.
	tailRead = 1 << 20
)

// LastLines returns the last lines that a container has written to its standard output and error, lines of them at the most
// and the end of them where they have more than limit bytes. The text is the app's: it may hold anything.
func (c *Client) LastLines(ctx context.Context, id string, lines, limit int) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	what := "reading the output of the container " + id
	inspected, err := c.api.ContainerInspect(ctx, id)
	if err != nil {
		return nil, c.failed(what, err)
	}
	stream, err := c.api.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(lines)})
	if err != nil {
		return nil, c.failed(what, err)
	}
	defer stream.Close()
	var text bytes.Buffer
	from := io.LimitReader(stream, tailRead)
	if inspected.Config != nil && inspected.Config.Tty {
		_, err = io.Copy(&text, from)
	} else {
		_, err = stdcopy.StdCopy(&text, &text, from)
	}
	// What has been read until then is worth more than why it is not all.
	if err != nil && text.Len() == 0 {
		return nil, c.failed(what, err)
	}
	end := text.Bytes()
	if len(end) > limit {
		end = end[len(end)-limit:]
	}
	last := strings.Split(strings.TrimRight(string(end), "\r\n"), "\n")
	if len(last) == 1 && last[0] == "" {
		return nil, nil
	}
	return last[max(0, len(last)-lines):], nil
}
