package docker

import (
	"context"
	"fmt"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// Watch calls changed for each event after which a container of an app may run, may not, or may have another address: it
// was started, died, was paused or taken out of a network. It first calls subscribed, when no event can be missed any more.
// What has changed is for the caller to look up; events tell too little, and some get lost. Only that a container has died can't
// be told soon enough, for its address is free from now on: died is its id then, else "".
//
// It returns when ctx ends or Docker does not answer any more; the latter error wraps [ErrUnreachable].
func (c *Client) Watch(ctx context.Context, subscribed func(), changed func(died string)) error {
	filter := filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)),
		filters.Arg("type", string(events.NetworkEventType)),
	)
	for _, action := range []events.Action{
		events.ActionStart, events.ActionDie, events.ActionPause, events.ActionUnPause, events.ActionDestroy,
		events.ActionConnect, events.ActionDisconnect,
	} {
		filter.Add("event", string(action))
	}
	// The library does not tell a stream that could not be opened from one that has ended.
	if _, err := c.api.Ping(ctx); err != nil {
		return c.failed("watching containers", err)
	}
	stream, errs := c.api.Events(ctx, events.ListOptions{Filters: filter})
	// The library has Docker's answer by now: from here on no event is missed.
	subscribed()
	for {
		select {
		case event := <-stream:
			died := ""
			if event.Type == events.ContainerEventType && event.Action == events.ActionDie {
				died = event.Actor.ID
			}
			changed(died)
		case err := <-errs:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return c.failed("watching containers", fmt.Errorf("the stream of events has ended: %w", err))
		}
	}
}
