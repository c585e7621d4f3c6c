package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	// watchTime is how long the API server is asked to keep up one watch.
	watchTime = 5 * time.Minute
	// maxEvent bounds what is read for one event, in bytes. etcd keeps no object larger than 1.5 MB.
	maxEvent = 8 << 20
	// watchPause is the least time between the beginnings of two watches: a server that ends each at once is not asked without end.
	watchPause = 250 * time.Millisecond
)

// Watch implements [deploy.Source]: it calls changed for each event of a pod of an app, with the pod's UID when its address is to be
// left at once, since it is being deleted, not ready any more, or gone. It goes on by itself when the API server ends a watch, as that
// does every few minutes, or has forgotten what the watch has missed.
//
// It returns when ctx ends or the API server does not answer any more; the latter error wraps [ErrUnreachable].
func (c *Client) Watch(ctx context.Context, subscribed func() error, changed func(died string)) error {
	w := &watch{serves: c.serves, changed: changed}
	begin := sync.OnceValue(subscribed)
	for of, told := (*session)(nil), false; ; {
		pause := time.After(watchPause)
		s, err := c.session()
		// The version of another session may be another cluster's.
		if err == nil && (s != of || w.version == "") {
			of, err = s, c.relist(ctx, s, w, told)
		}
		if err == nil {
			var expired bool
			expired, err = c.stream(ctx, s, podsOfApps("watching the pods"), w.version, func() error { told = true; return begin() }, w.see)
			if expired {
				w.version = ""
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			err = over(ctx, pause)
		}
		if err != nil {
			return err
		}
	}
}

// over waits until a pause is over, or ctx ends.
func over(ctx context.Context, pause <-chan time.Time) error {
	select {
	case <-pause:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// podsOfApps is the question for the pods of all apps.
func podsOfApps(what string) question {
	return question{what: what, path: allPods, kind: "Pod", query: url.Values{"labelSelector": {ofAnyApp}}}
}

// relist takes the watch to the present; tell says whether the caller is to hear of it.
func (c *Client) relist(ctx context.Context, s *session, w *watch, tell bool) error {
	if _, _, err := c.onNode(ctx, s); err != nil {
		return err
	}
	pods, version, err := list[pod](ctx, c, s, podsOfApps("listing the pods to watch"))
	if err != nil {
		return err
	}
	if version == "" {
		return s.failed(ctx, "listing the pods to watch", errors.New("the list has no version"))
	}
	before := w.up
	w.version, w.up = version, make(map[string]bool)
	for i := range pods {
		p := &pods[i]
		serves, err := w.serves(p)
		if err != nil {
			return err
		}
		if serves {
			w.up[p.Metadata.UID] = p.running()
		}
	}
	if !tell {
		return nil
	}
	for uid, up := range before {
		if up && !w.up[uid] {
			w.changed(uid)
		}
	}
	w.changed("")
	return nil
}

// stream follows one watch of what a question lists, from a version on, until the API server ends it, or has forgotten that version: both
// are no error. It calls opened when that has begun, and see for each event.
func (c *Client) stream(
	ctx context.Context, s *session, q question, version string, opened func() error, see func(kind string, object json.RawMessage) error,
) (expired bool, err error) {
	bound := time.Duration(c.bound.Load())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(bound, func() { cancel(context.DeadlineExceeded) })
	defer late.Stop()
	query := maps.Clone(q.query)
	query.Set("watch", "true")
	query.Set("allowWatchBookmarks", "true")
	query.Set("resourceVersion", version)
	query.Set("timeoutSeconds", strconv.Itoa(int(watchTime/time.Second)))
	response, err := s.get(ctx, q.path, query)
	if err == nil {
		defer response.Body.Close()
		late.Reset(watchTime + bound)
		if err := opened(); err != nil {
			return false, err
		}
		err = follow(response.Body, see)
	}
	if errors.Is(err, errExpired) {
		return true, nil
	}
	return false, s.failed(ctx, q.what, err)
}

// follow reads events until they end.
func follow(body io.Reader, see func(kind string, object json.RawMessage) error) error {
	limited := &bounded{body: body}
	for events := json.NewDecoder(limited); ; {
		limited.left = maxEvent
		var event struct {
			Type   string
			Object json.RawMessage
		}
		if err := events.Decode(&event); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return unreadable(err)
		}
		if event.Type == "ERROR" {
			answer := &status{}
			if err := json.Unmarshal(event.Object, answer); err != nil {
				return err
			}
			return answer
		}
		if err := see(event.Type, event.Object); err != nil {
			return err
		}
	}
}

// watch is the progress of a watch.
type watch struct {
	serves  func(*pod) (bool, error)
	changed func(died string)
	// version is that of the last event, "" before there was a list.
	version string
	// up has the UIDs of the pods of apps, and tells which of them can serve.
	up map[string]bool
}

// see takes in one event.
func (w *watch) see(event string, object json.RawMessage) error {
	var p pod
	if err := json.Unmarshal(object, &p); err != nil {
		return err
	}
	serves, err := w.serves(&p)
	if err != nil {
		return own{err}
	}
	uid, now := p.Metadata.UID, p.running()
	was, known := w.up[uid]
	switch event {
	case "BOOKMARK":
	case "DELETED":
		delete(w.up, uid)
		if known || serves {
			w.changed(uid)
		}
	case "ADDED", "MODIFIED":
		// One that was not seen before may have served.
		died := !serves || !now && (was || !known && event == "MODIFIED")
		if serves {
			w.up[uid] = now
		} else {
			delete(w.up, uid)
		}
		switch {
		case serves && !died:
			w.changed("")
		case serves || known:
			w.changed(uid)
		}
	default:
		return fmt.Errorf("it tells of an event of the type %.40q", event)
	}
	if v := p.Metadata.ResourceVersion; v != "" {
		w.version = v
	}
	return nil
}
