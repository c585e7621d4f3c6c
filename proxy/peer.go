package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
)

// dialControl connects to the daemon at path.
func dialControl(ctx context.Context, path string) (*net.UnixConn, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("connecting to %s gave a %T", path, c), c.Close())
	}
	return conn, nil
}

// exchange asks one question and reads the answer. The files that came with it are the caller's.
func exchange(w wire, r request) (response, []*os.File, error) {
	r.Protocol = max(1, since[r.Call])
	if err := w.send(r); err != nil {
		return response{}, nil, err
	}
	line, files, err := w.receive()
	if err != nil {
		return response{}, nil, err
	}
	var answer response
	if err := json.Unmarshal(line, &answer); err != nil {
		closeAll(files)
		return response{}, nil, fmt.Errorf("the daemon's answer can't be read: %w", err)
	}
	return answer, files, nil
}
