package docker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"dokku-expose/internal/dockertest"
)

// Docker tells of containers in the order of what they do.
func TestWatchTellsOfAppsOnly(t *testing.T) {
	api := dockertest.Client(t)
	image := appImage(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	deaths, subscribed := make(chan string, 1000), make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		err := newClient(t).Watch(ctx, func() error { close(subscribed); return nil }, func(died string) { deaths <- died })
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	defer watching.Wait()
	defer cancel()
	<-subscribed
	build := dockertest.Run(t, image, dockertest.Options{})
	task := dockertest.Run(t, image, dockertest.Options{Labels: map[string]string{labelApp: "mail", labelType: "cron"}})
	app := dockertest.Run(t, image, dockertest.Options{Labels: dockertest.Labels("mail", "web", 1)})
	strangers := []string{build, task}
	for _, id := range append(strangers, app) {
		if err := api.ContainerKill(ctx, id, "KILL"); err != nil {
			t.Fatal(err)
		}
		dead, errs := api.ContainerWait(ctx, id, container.WaitConditionNotRunning)
		select {
		case <-dead:
		case err := <-errs:
			t.Fatal(err)
		}
	}
	for {
		select {
		case died := <-deaths:
			if died == app {
				return
			}
			if slices.Contains(strangers, died) {
				t.Error("it tells of a container that is no app's")
			}
		case <-ctx.Done():
			t.Fatal("it tells nothing of the app's container")
		}
	}
}

func TestOnlyEventsOfAppsCount(t *testing.T) {
	of := func(id, label string, action events.Action) events.Message {
		return events.Message{Type: events.ContainerEventType, Action: action, Actor: events.Actor{ID: id, Attributes: map[string]string{labelType: label}}}
	}
	network := func(id string, action events.Action) events.Message {
		return events.Message{Type: events.NetworkEventType, Action: action, Actor: events.Actor{ID: "bridge", Attributes: map[string]string{"container": id}}}
	}
	s := make(strangers)
	for i, step := range []struct {
		event events.Message
		want  bool
	}{
		{network("old", events.ActionConnect), true}, // It was there before, and may be anybody's.
		{of("app", typeDeploy, events.ActionCreate), false},
		{network("app", events.ActionConnect), true},
		{of("app", typeDeploy, events.ActionStart), true},
		{of("build", "", events.ActionCreate), false},
		{network("build", events.ActionConnect), false},
		{of("build", "", events.ActionStart), false},
		{of("task", "cron", events.ActionCreate), false},
		{network("task", events.ActionConnect), false},
		{of("build", "", events.ActionDie), false},
		{network("build", events.ActionDisconnect), false},
		{of("build", "", events.ActionDestroy), false},
		{network("app", events.ActionDisconnect), true},
		{of("app", typeDeploy, events.ActionDie), true},
		{of("app", typeDeploy, events.ActionDestroy), true},
	} {
		if got := s.concerns(step.event); got != step.want {
			t.Errorf("step %d, %s %s: %t", i, step.event.Type, step.event.Action, got)
		}
	}
	if len(s) != 1 {
		t.Errorf("remembered are %v, want what lives", s)
	}
}
