package host

import (
	"fmt"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/docker"
)

// publishedBy says who publishes the port of a claim with Docker, and how to free it.
func (h *Host) publishedBy(c deploy.Claim, p docker.Published) error {
	if p.App == "" {
		return fmt.Errorf("the container %s publishes it (docker run -p); use another port, or publish that one elsewhere", p.Container)
	}
	protocol := "tcp"
	if p.Listen.Proto == deploy.UDP {
		protocol = "udp"
	}
	// Without the option's text the message says less, and is right still.
	options, err := h.Env.Publishing(p.App, protocol, p.Listen.Port)
	if err != nil {
		h.Out.Warn("%v", err)
	}
	take := ""
	for _, o := range options {
		take += o.Removal(p.App) + ", then "
	}
	if p.App == c.App {
		return fmt.Errorf("the app's own container %s publishes it (docker run -p); free it: %sdokku ps:stop %s; the next deploy, or dokku ps:start %s, starts the app again",
			p.Container, take, p.App, p.App)
	}
	return fmt.Errorf("the container %s of the app %s publishes it (docker run -p); use another port, or free that one: %sdokku ps:stop %s and dokku ps:start %s",
		p.Container, p.App, take, p.App, p.App)
}
