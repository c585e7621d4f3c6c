package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"dokku-expose/deploy"
	"dokku-expose/proxy"
)

// protocol is what a program knows of the control protocol.
type protocol struct {
	// version is the newest one. It grows with each change that an older side would misunderstand.
	version int
	// since is the version that has a call as it is now. A request is of that version, not of the newest, so that an older daemon
	// understands its successor.
	since map[string]int
}

// ours is the protocol of this program.
func ours() protocol {
	return protocol{version: 2, since: map[string]int{callApply: 2, callObserve: 2, callHandover: 1, callHanded: 1, callFollow: 1, callEnd: 1}}
}

// versionOf is the version of a request.
func (p protocol) versionOf(call string) int { return max(1, p.since[call]) }

// The calls of a request.
const (
	callApply    = "apply"
	callObserve  = "observe"
	callHandover = "handover" // give me all your sockets
	callHanded   = "handed"   // I have them, and serve: stop
	callFollow   = "follow"   // my successor has gone: send me your tables
	callEnd      = "end"      // no successor comes: shut down as I do
)

// request is a client's message.
type request struct {
	Protocol int           `json:"protocol"`
	Call     string        `json:"call"`
	Table    *deploy.Table `json:"table,omitempty"`
	// Aspects are those of an observation that cost more.
	Aspects []deploy.Aspect `json:"aspects,omitempty"`
}

// response is the daemon's message.
type response struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`
	// Error is the reason for a response without content, else "".
	Error string `json:"error,omitempty"`
	// Superseded tells that another daemon answers at the same socket, which is to be asked.
	Superseded bool `json:"superseded,omitempty"`
	// TooOld tells that the daemon does not know the protocol.
	TooOld bool `json:"too_old,omitempty"`

	Applied  *deploy.Applied `json:"applied,omitempty"`
	Failed   []failure       `json:"failed,omitempty"`
	Observed *observed       `json:"observed,omitempty"`
	Handover *handover       `json:"handover,omitempty"`
}

// failure is a deploy.RouteError.
type failure struct {
	App   string     `json:"app"`
	Key   deploy.Key `json:"frontend"`
	Error string     `json:"error"`
}

// observed is a daemon's observation of itself, with the parts that only a client of its control socket may know.
type observed struct {
	deploy.Observation
	// Processes are the daemon's own id, and those of the daemons that it took over from.
	Processes []int          `json:"processes"`
	Page      netip.AddrPort `json:"page,omitzero"`
}

// handover lists the files of the message: the sockets of the table's routes in their order, those of the flows of UDP, the control socket,
// and the connections to that many predecessors.
type handover struct {
	Table        deploy.Table `json:"table"`
	Flows        []proxy.Flow `json:"flows,omitempty"`
	Predecessors int          `json:"predecessors"`
}

// errTooOld is for a client that knows more than the daemon.
var errTooOld = errors.New("the running daemon is older than the program that asks it")

// decode reads a request, and accepts well-formed ones only. A request of a newer protocol is errTooOld, as is one with fields that this
// version does not know: their meaning must not be lost silently. A request that is not accepted has its call, as far as there is one.
func (p protocol) decode(line []byte) (request, error) {
	var head struct {
		Protocol int    `json:"protocol"`
		Call     string `json:"call"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return request{}, fmt.Errorf("not a request: %w", err)
	}
	wrong := request{Call: head.Call}
	switch {
	case head.Protocol > p.version:
		return wrong, fmt.Errorf("%w: it speaks version %d of the control protocol, not %d", errTooOld, p.version, head.Protocol)
	case head.Protocol < 1:
		return wrong, errors.New("not a request: it has no protocol version")
	}
	var r request
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return wrong, fmt.Errorf("%w: %w", errTooOld, err)
	}
	switch {
	case p.since[r.Call] == 0:
		return wrong, fmt.Errorf("%w: it knows no call %q", errTooOld, r.Call)
	case r.Call != callApply:
		return r, nil
	case r.Table == nil:
		return wrong, errors.New("apply without a table")
	}
	return r, proxy.CheckTable(*r.Table)
}

// appliedResponse is the result of an Apply.
func appliedResponse(applied deploy.Applied, err error) response {
	r := response{Applied: &applied}
	var rest []error
	for _, e := range flatten(err) {
		var routeErr *deploy.RouteError
		if errors.As(e, &routeErr) {
			r.Failed = append(r.Failed, failure{routeErr.App, routeErr.Key, routeErr.Err.Error()})
		} else {
			rest = append(rest, e)
		}
	}
	if len(rest) > 0 {
		r.Error = errors.Join(rest...).Error()
	}
	return r
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var list []error
	for _, e := range joined.Unwrap() {
		list = append(list, flatten(e)...)
	}
	return list
}

// errors are the failures as Apply returns them.
func (r response) errors() error {
	var errs []error
	for _, f := range r.Failed {
		errs = append(errs, &deploy.RouteError{App: f.App, Key: f.Key, Err: errors.New(f.Error)})
	}
	return errors.Join(errs...)
}
