package docker

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// Watch calls changed for each event after which a container of an app may run, may not, or may have another address: it
// was started, died, was paused or taken out of a network. Events of builds, cron tasks and other containers of the host don't count.
// Watch first calls subscribed, when no event can be missed any more, and returns that one's error.
// What has changed is for the caller to look up; events tell too little, and some get lost. Only that a container has died can't
// be told soon enough, for its address is free from now on: died is its id then, else "".
//
// It returns when ctx ends or Docker does not answer any more; the latter error wraps [ErrUnreachable].
func (c *Client) Watch(ctx context.Context, subscribed func() error, changed func(died string)) error {
	filter := filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)),
		filters.Arg("type", string(events.NetworkEventType)),
	)
	for _, action := range []events.Action{
		events.ActionCreate, events.ActionStart, events.ActionDie, events.ActionPause, events.ActionUnPause, events.ActionDestroy,
		events.ActionConnect, events.ActionDisconnect,
	} {
		filter.Add("event", string(action))
	}
	// The library does not tell a stream that could not be opened from one that has ended.
	if err := c.Ping(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(time.Duration(c.bound.Load()), cancel)
	stream, errs := c.api.Events(ctx, events.ListOptions{Filters: filter})
	if !late.Stop() {
		return c.failed("watching containers", context.DeadlineExceeded)
	}
	// The library has Docker's answer by now: from here on no event is missed.
	if err := subscribed(); err != nil {
		return err
	}
	strangers := make(strangers)
	for {
		select {
		case event := <-stream:
			if !strangers.concerns(event) {
				continue
			}
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

// strangers are the ids of containers that are known to be of no app. An event of a network tells no more of a container than its id.
type strangers map[string]bool

// concerns tells whether an event may be of an app's container.
func (s strangers) concerns(event events.Message) bool {
	if event.Type == events.NetworkEventType {
		return !s[event.Actor.Attributes["container"]]
	}
	id, stranger := event.Actor.ID, event.Actor.Attributes[labelType] != typeDeploy
	switch event.Action {
	case events.ActionCreate:
		if stranger {
			s[id] = true
		}
		return false // It does not run.
	case events.ActionDestroy:
		delete(s, id)
	}
	return !stranger
}
