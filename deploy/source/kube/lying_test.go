package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"dokku-expose/internal/kubetest"
)

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
