package docker

import (
	"context"
	"time"

	"dokku-expose/deploy"
)

// End tells how the process of a container ended last, with one call of Docker's API.
func (c *Client) End(ctx context.Context, id string) (deploy.End, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	inspected, err := c.api.ContainerInspect(ctx, id)
	if err != nil {
		return deploy.End{}, c.failed("looking at the container "+id, err)
	}
	end := deploy.End{Restarts: inspected.RestartCount}
	if state := inspected.State; state != nil {
		end.Code, end.OutOfMemory, end.Failure = state.ExitCode, state.OOMKilled, state.Error
		if state.Running && !state.Restarting {
			end.Code = -1
		}
		// Docker's word for never is the year 1.
		if at, err := time.Parse(time.RFC3339Nano, state.FinishedAt); err == nil && at.Year() > 1 {
			end.At = at
		}
	}
	return end, nil
}
