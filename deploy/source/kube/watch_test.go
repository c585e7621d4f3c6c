package kube

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dokku-expose/internal/kubetest"
	"dokku-expose/internal/wait"
)

// watching is a call of Watch.
type watching struct {
	t *testing.T
	// told has what Watch calls, and end its error.
	told       chan string
	subscribed chan struct{}
	end        chan error
	cancel     context.CancelFunc
}

// begin calls Watch and waits until it has subscribed.
func begin(t *testing.T, c *Client) *watching {
	t.Helper()
	w := open(t, c)
	select {
	case <-w.subscribed:
	case err := <-w.end:
		t.Fatalf("it ended before it had subscribed: %v", err)
	}
	return w
}

func open(t *testing.T, c *Client) *watching {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	w := &watching{t: t, told: make(chan string, 1000), subscribed: make(chan struct{}), end: make(chan error, 1), cancel: cancel}
	var running sync.WaitGroup
	running.Go(func() {
		// A second call panics.
		w.end <- c.Watch(ctx, func() error { close(w.subscribed); return nil }, func(died string) { w.told <- died })
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return w
}

// want awaits what Watch tells, in that order.
func (w *watching) want(step string, want ...string) {
	w.t.Helper()
	for i, one := range want {
		select {
		case got := <-w.told:
			if got != one {
				w.t.Fatalf("%s: call %d is changed(%q), want changed(%q)", step, i+1, got, one)
			}
		case err := <-w.end:
			w.t.Fatalf("%s: it has ended: %v", step, err)
		}
	}
}

// until awaits a call with that UID, and returns the calls before it.
func (w *watching) until(step, uid string) (calls []string) {
	w.t.Helper()
	for {
		select {
		case got := <-w.told:
			if got == uid {
				return calls
			}
			calls = append(calls, got)
		case err := <-w.end:
			w.t.Fatalf("%s: it has ended: %v", step, err)
		}
	}
}

// fails awaits the end of Watch.
func (w *watching) fails() error {
	w.t.Helper()
	err := <-w.end
	if errors.Is(err, context.DeadlineExceeded) {
		w.t.Fatal("it goes on")
	}
	return err
}

// web is a pod of the app mail.
func web(name string, ready bool) kubetest.Pod {
	return kubetest.Pod{App: "mail", Process: "web", Name: name, IPs: []string{"10.42.0.7"}, Ready: ready}
}

func testWatch(t *testing.T, api server) {
	for _, name := range []string{"old", "mark"} {
		api.PutPod(web(name, true))
	}
	api.PutPod(web("starting", false))
	uid := func(name string) string { return api.UID("Pod", "default", name) }
	old, starting, mark := uid("old"), uid("starting"), uid("mark")
	w := begin(t, newClient(t, api, ""))
	// told wants Watch to tell of what is done, and of these pods that have died. One change may come as several events, so a mark ends them.
	told := func(step string, do func(), died ...string) {
		t.Helper()
		do()
		api.PutPod(web("mark", false))
		calls := w.until(step, mark)
		api.PutPod(web("mark", true))
		w.want(step, "")
		got := slices.DeleteFunc(slices.Clone(calls), func(uid string) bool { return uid == "" })
		if len(calls) == 0 || !slices.Equal(got, died) {
			t.Errorf("%s: it calls changed %d times, with %q, want %q", step, len(calls), got, died)
		}
	}
	put := func(p kubetest.Pod, change func(*kubetest.Pod)) func() {
		return func() {
			if change != nil {
				change(&p)
			}
			api.PutPod(p)
		}
	}
	reason := func(p *kubetest.Pod) {
		p.Edit = func(o kubetest.Object) { o["status"].(map[string]any)["reason"] = "Test" }
	}
	leaving := func(p *kubetest.Pod) { p.Leaving = true }
	without := func(key string) func(*kubetest.Pod) {
		return func(p *kubetest.Pod) {
			p.Edit = func(o kubetest.Object) { delete(o["metadata"].(map[string]any), key) }
		}
	}
	told("it gets ready", put(web("starting", true), nil))
	told("nothing of interest changes", put(web("old", true), reason))
	told("it is not ready any more", put(web("old", false), nil), old)
	told("it is not ready still", put(web("old", false), reason))
	told("it is ready again", put(web("old", true), nil))
	told("it is being deleted", put(web("old", true), leaving), old)
	told("it is being deleted still", put(web("old", false), leaving))
	told("it is gone", func() { api.DeletePod("old") }, old)
	told("a new one", put(web("new", false), nil))
	told("it starts", put(web("new", false), reason))
	fresh := uid("new")
	told("it is gone before it was ready", func() { api.DeletePod("new") }, fresh)
	told("it is the deployment's no more", put(web("starting", true), without("ownerReferences")), starting)
	told("it is the deployment's again, and may have served before", put(web("starting", false), nil), starting)
	told("it has lost its labels", put(web("starting", true), without("labels")), starting)

	put(web("job", true), without("ownerReferences"))()
	api.DeletePod("job")
	elsewhere := web("elsewhere", true)
	elsewhere.Namespace = "evil"
	api.PutPod(elsewhere)
	api.Delete("Pod", "evil", "elsewhere")
	api.PutPod(web("mark", false))
	if calls := w.until("strangers", mark); len(calls) > 0 {
		t.Errorf("it tells of strangers: %q", calls)
	}
	w.cancel()
	if err := <-w.end; !errors.Is(err, context.Canceled) || len(w.told) > 0 {
		t.Errorf("got %v, and %d calls too many", err, len(w.told))
	}
}

// The watch begins at the list's version, so it misses nothing in between.
func TestWatchMissesNothingBeforeItSubscribes(t *testing.T) {
	api := kubetest.New(t)
	api.PutPod(web("old", true))
	old := api.UID("Pod", "default", "old")
	var once sync.Once
	api.Handle(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("watch") {
			once.Do(func() { api.DeletePod("old") })
		}
		return false
	})
	begin(t, newClient(t, api, "")).want("it dies", old)
}

func TestWatchReturnsTheSubscribersError(t *testing.T) {
	api := kubetest.New(t)
	// The subscriber lists as well, and that may come too late twice.
	for _, refused := range []error{errors.New("no"), errExpired} {
		if err := newClient(t, api, "").Watch(t.Context(), func() error { return refused }, func(string) {}); !errors.Is(err, refused) {
			t.Errorf("got %v", err)
		}
	}
}

// A server that ends each watch at its beginning is no reason to subscribe again and again, nor to give up.
func TestWatchSubscribesOnce(t *testing.T) {
	api := kubetest.New(t)
	watches := make(chan struct{}, 1000)
	api.Handle(func(w http.ResponseWriter, r *http.Request) bool {
		short := r.URL.Query().Has("watch")
		if short {
			watches <- struct{}{}
		}
		return short
	})
	w := begin(t, newClient(t, api, ""))
	for range 3 {
		select {
		case <-watches:
		case err := <-w.end:
			t.Fatal(err)
		}
	}
	api.Handle(nil)
	api.PutPod(web("new", true))
	w.want("it goes on", "")
}

// counted counts the requests with all of these parts.
func counted(api *kubetest.API, parts ...string) (n int) {
	for _, r := range api.Requests() {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(r, part) }) {
			n++
		}
	}
	return n
}

// A server ends each watch after some minutes. A bookmark has moved the version on, or else it would have expired.
func TestWatchGoesOn(t *testing.T) {
	api := kubetest.New(t)
	api.PutPod(web("old", true))
	old := api.UID("Pod", "default", "old")
	w := begin(t, newClient(t, api, ""))
	for range 50 {
		api.Put(kubetest.Service("default", "other", nil, nil))
	}
	api.Bookmark()
	api.EndWatches()
	api.Expire()
	api.DeletePod("old")
	w.want("it dies meanwhile", old)
	if lists, watches := counted(api, "/pods?", "limit="), counted(api, "/pods?", "watch="); lists != 1 || watches != 2 {
		t.Errorf("it listed %d times and watched %d times, want 1 and 2", lists, watches)
	}
}

// A version that has expired makes the watch begin anew, and what has died meanwhile is told.
func TestWatchExpires(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter) bool{
		"as an event": func(http.ResponseWriter) bool { return false },
		"as a status": func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusGone); return true },
	} {
		t.Run(name, func(t *testing.T) {
			api := kubetest.New(t)
			api.PutPod(web("old", true))
			api.PutPod(web("waiting", false))
			api.PutPod(web("stays", true))
			old := api.UID("Pod", "default", "old")
			w := begin(t, newClient(t, api, ""))
			var once sync.Once
			api.Handle(func(w http.ResponseWriter, r *http.Request) (answered bool) {
				if r.URL.Query().Has("watch") {
					once.Do(func() {
						api.DeletePod("old")
						api.DeletePod("waiting")
						api.PutPod(web("new", true))
						api.Expire()
						answered = answer(w)
					})
				}
				return answered
			})
			api.EndWatches()
			w.want("it has missed events", old, "")
			wait.Until(t, "it watches again", func() bool { return api.Watches() == 1 })
			api.PutPod(web("new", false))
			w.want("it goes on", api.UID("Pod", "default", "new"))
		})
	}
}

// After a change of the kubeconfig the version may be another cluster's.
func TestWatchFollowsTheKubeconfig(t *testing.T) {
	api, other := kubetest.New(t), kubetest.New(t)
	api.PutPod(web("old", true))
	old := api.UID("Pod", "default", "old")
	c := newClient(t, api, "")
	w := begin(t, c)
	other.WriteKubeconfig(t, c.config.Kubeconfig)
	api.EndWatches()
	w.want("another cluster", old, "")
	other.PutPod(web("new", true))
	w.want("it goes on there", "")
}

func TestWatchIsLost(t *testing.T) {
	for name, lose := range map[string]func(*kubetest.API){
		"the stream breaks": (*kubetest.API).BreakWatches,
		// A stopped process, or a link that is down: the connection stays.
		"the server hangs":    (*kubetest.API).Hang,
		"the server restarts": func(api *kubetest.API) { api.Fail(http.StatusServiceUnavailable); api.EndWatches() },
	} {
		t.Run(name, func(t *testing.T) {
			api := kubetest.New(t)
			c := newClient(t, api, "")
			c.silence, c.current = 20*time.Millisecond, nil
			w := begin(t, c)
			lose(api)
			if err := w.fails(); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), api.URL()) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestWatchEndsAtOnce(t *testing.T) {
	api := kubetest.New(t)
	c := newClient(t, api, "")
	api.Hang()
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error)
	go func() {
		end <- c.Watch(ctx, func() error { return errors.New("subscribed") }, func(string) {})
	}()
	cancel()
	select {
	case err := <-end:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(callTimeout / 2):
		t.Error("it waits for the server")
	}
}
