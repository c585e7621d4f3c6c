package proxy

import (
	"encoding/json"
	"fmt"
	"os"
)

// exchange asks one question and reads the answer. The files that came with it are the caller's.
func exchange(w wire, r request) (response, []*os.File, error) {
	r.Protocol = protocol
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
