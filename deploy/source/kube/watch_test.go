package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
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

func TestWatch(t *testing.T) {
	api := kubetest.New(t)
	api.PutPod(web("old", true))
	api.PutPod(web("starting", false))
	uid := func(name string) string { return api.UID("Pod", "default", name) }
	old, starting := uid("old"), uid("starting")
	w := begin(t, newClient(t, api, ""))
	api.PutPod(web("starting", true))
	w.want("it gets ready", "")
	api.PutPod(web("old", true))
	w.want("nothing of interest changes", "")
	api.PutPod(web("old", false))
	w.want("it is not ready any more", old)
	api.PutPod(web("old", false))
	w.want("it is not ready still", "")
	api.PutPod(web("old", true))
	w.want("it is ready again", "")
	leaving := web("old", true)
	leaving.Leaving = true
	api.PutPod(leaving)
	w.want("it is being deleted", old)
	api.PutPod(leaving)
	w.want("it is being deleted still", "")
	api.DeletePod("old")
	w.want("it is gone", old)
	api.PutPod(web("new", false))
	w.want("a new one", "")
	api.PutPod(web("new", false))
	w.want("it starts", "")
	fresh := uid("new")
	api.DeletePod("new")
	w.want("it is gone before it was ready", fresh)
	// Strangers.
	job := web("job", true)
	job.Edit = func(o kubetest.Object) { o["metadata"].(map[string]any)["ownerReferences"] = nil }
	api.PutPod(job)
	api.DeletePod("job")
	elsewhere := web("elsewhere", true)
	elsewhere.Namespace = "evil"
	api.PutPod(elsewhere)
	api.Delete("Pod", "evil", "elsewhere")
	api.Bookmark()
	api.PutPod(web("starting", true))
	w.want("strangers are not told of", "")
	starter := web("starting", true)
	starter.Edit = job.Edit
	api.PutPod(starter)
	w.want("it is the deployment's no more", starting)
	api.PutPod(starter)
	api.PutPod(web("starting", false))
	w.want("it is the deployment's again, and may have served before", starting)
	unlabelled := web("starting", true)
	unlabelled.Edit = func(o kubetest.Object) { o["metadata"].(map[string]any)["labels"] = nil }
	api.PutPod(unlabelled)
	w.want("it has lost its labels", starting)
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

// No answer of a server that lies is believed, nor fills the memory.
func TestLyingServer(t *testing.T) {
	endless := func(w http.ResponseWriter, text string) {
		for part := strings.Repeat("x", 1<<20); ; {
			if _, err := io.WriteString(w, text+part); err != nil {
				return
			}
			text = ""
		}
	}
	of := func(text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _, _ = io.WriteString(w, text) }
	}
	for _, row := range []struct {
		name, query string
		answer      func(http.ResponseWriter)
		unreachable bool
	}{
		{name: "a list is a page", query: "limit", answer: of("<html>hello</html>")},
		{name: "a list is empty", query: "limit", answer: of("")},
		{name: "a list is cut", query: "limit", answer: of(`{"kind":"PodList","items":[{`)},
		{name: "a list breaks off", query: "limit", answer: func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"kind":"PodList","items":[{`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, unreachable: true},
		{name: "a list is of another kind", query: "limit", answer: of(`{"kind":"SecretList","metadata":{"resourceVersion":"7"},"items":[]}`)},
		{name: "a list has chunks without end", query: "limit", answer: of(`{"kind":"PodList","metadata":{"continue":"x"},"items":[]}` + strings.Repeat(" ", maxList/4))},
		{name: "a list has other types", query: "limit", answer: of(`{"kind":"PodList","items":[7]}`)},
		{name: "a list has no version", query: "limit", answer: of(`{"kind":"PodList","items":[]}`)},
		{name: "a list has no end", query: "limit", answer: func(w http.ResponseWriter) { endless(w, `{"kind":"`) }},
		{name: "an event is a page", query: "watch", answer: of("<html>hello</html>")},
		{name: "an event is of another type", query: "watch", answer: of(`{"type":"HELLO","object":{}}`)},
		{name: "an event has another object", query: "watch", answer: of(`{"type":"ADDED","object":[]}`)},
		{name: "an event is cut", query: "watch", answer: of(`{"type":"ADDED","object":{`), unreachable: true},
		{name: "an event has no end", query: "watch", answer: func(w http.ResponseWriter) { endless(w, `{"type":"`) }},
		{name: "an error is no status", query: "watch", answer: of(`{"type":"ERROR","object":"hello"}`)},
		{name: "an error of the server", query: "watch", answer: of(`{"type":"ERROR","object":{"code":500,"message":"etcd"}}`), unreachable: true},
		{name: "an error without a code", query: "watch", answer: of(`{"type":"ERROR","object":{}}`)},
	} {
		t.Run(row.name, func(t *testing.T) {
			api := kubetest.New(t)
			api.Handle(func(w http.ResponseWriter, r *http.Request) bool {
				lies := r.URL.Query().Has(row.query) && strings.HasSuffix(r.URL.Path, "/pods")
				if lies {
					row.answer(w)
				}
				return lies
			})
			err := open(t, newClient(t, api, "")).fails()
			if err == nil || errors.Is(err, ErrUnreachable) != row.unreachable || !strings.Contains(err.Error(), api.URL()) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzWatch(f *testing.F) {
	for _, event := range []string{"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"} {
		p := web("mail-web-1", true)
		p.Edit = func(o kubetest.Object) {
			meta := o["metadata"].(map[string]any)
			meta["uid"], meta["resourceVersion"] = "1-2-3", "7"
		}
		object, err := json.Marshal(p.Object())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(fmt.Sprintf(`{"type":%q,"object":%s}`, event, object))
	}
	f.Add(`{"type":"ERROR","object":{"code":410}}`)
	f.Fuzz(func(t *testing.T, stream string) {
		c := &Client{config: Config{Namespace: inDefault}}
		s := &session{server: &url.URL{}}
		known := make(map[string]bool)
		w := &watch{serves: c.serves, up: make(map[string]bool)}
		w.changed = func(died string) {
			if died != "" && w.up[died] {
				t.Errorf("%q has died, and can serve", died)
			}
			known[died] = true
		}
		if err := follow(strings.NewReader(stream), w.see); err != nil && s.failed(t.Context(), "watching", err) == nil {
			t.Errorf("%v is no failure", err)
		}
		if len(known) == 0 && len(w.up) > 0 {
			t.Error("a pod is noted and not told of")
		}
	})
}
