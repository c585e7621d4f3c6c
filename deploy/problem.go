package deploy

import (
	"errors"
	"fmt"
)

// Problem is something that keeps a route from being what was asked for. Whatever worked before goes on working.
type Problem struct {
	// App is "" for a problem of the whole host.
	App string
	// Key is the zero value for a problem of the whole app, and for an [Outage], which names its ports itself.
	Key Key
	Err error
}

func (p *Problem) Error() string {
	if p.App == "" {
		return p.Err.Error()
	}
	if ports := p.Ports(); ports != "" {
		return fmt.Sprintf("%s: public port %s: %v", p.App, ports, p.Err)
	}
	return fmt.Sprintf("%s: %v", p.App, p.Err)
}

// Ports are the public ports concerned, "" for a problem of the whole app.
func (p *Problem) Ports() string {
	var outage *Outage
	switch {
	case p.Key != (Key{}):
		return p.Key.String()
	case errors.As(p.Err, &outage):
		return outage.Ports()
	}
	return ""
}

func (p *Problem) Unwrap() error { return p.Err }

// ErrKept tells that a container that does not accept connections did not replace one that does.
var ErrKept = errors.New("the container before it goes on serving")

// ErrNotAccepting tells that no container of a route accepts connections on its private port.
var ErrNotAccepting = errors.New("does not accept connections yet; new ones are held until it does")

// ErrHostLack tells that a server can't be asked whether it accepts, since this host lacks something to connect to it with.
var ErrHostLack = errors.New("can't be connected to, which is not its fault but a lack of this host")

// ErrAddressKept tells that a running container has no address of the kind that `upstream` wants, which may have been set
// after it was created.
var ErrAddressKept = errors.New("until then it goes on serving at the address where it does now")

// ErrUnended tells that what a container out of service still has may go on for longer than it should.
var ErrUnended = errors.New("connections to containers out of service were not ended")
