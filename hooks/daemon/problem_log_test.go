package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/hooks/host"
)

// The log's words depend on the model's problems and on time only, whatever the engine.
func TestProblemLog(t *testing.T) {
	mail, news := deploy.Key{Port: 25}, deploy.Key{Port: 119}
	starting := func(l deploy.Key) *deploy.Problem {
		return &deploy.Problem{App: "mail", Key: l, Err: fmt.Errorf("web.1 %w", deploy.ErrNotAccepting)}
	}
	outage := &deploy.Problem{App: "mail", Err: &deploy.Outage{App: "mail", Process: "web", Claims: []deploy.Claim{{Key: mail}, {Key: news}}}}
	conflict := &deploy.Problem{App: "chat", Key: mail, Err: fmt.Errorf("belongs to mail")}
	type step struct {
		at       time.Duration
		problems []*deploy.Problem
		// want are the messages that are logged, with their app; due is when the next one is, 0 for never.
		want []string
		due  time.Duration
	}
	for name, steps := range map[string][]step{
		"a start that takes less than five seconds": {
			{0, []*deploy.Problem{starting(mail)}, nil, 5 * time.Second},
			{4 * time.Second, []*deploy.Problem{starting(mail)}, nil, 5 * time.Second},
			{5*time.Second - 1, nil, nil, 0},
			{6 * time.Second, []*deploy.Problem{starting(mail)}, nil, 11 * time.Second},
		},
		"a start that takes longer": {
			{0, []*deploy.Problem{starting(mail)}, nil, 5 * time.Second},
			{5 * time.Second, []*deploy.Problem{starting(mail)}, []string{"problem mail"}, 0},
			{9 * time.Second, []*deploy.Problem{starting(mail)}, nil, 0},
			{10 * time.Second, nil, []string{"solved mail"}, 0},
		},
		"a container that crashes again and again": {
			{0, []*deploy.Problem{starting(mail), starting(news)}, nil, 5 * time.Second},
			{3 * time.Second, []*deploy.Problem{outage}, nil, 5 * time.Second},
			{6 * time.Second, []*deploy.Problem{starting(mail)}, []string{"problem mail"}, 0},
			{7 * time.Second, []*deploy.Problem{starting(mail), starting(news)}, nil, 12 * time.Second},
			{8 * time.Second, []*deploy.Problem{outage}, []string{"problem mail"}, 0},
			{9 * time.Second, []*deploy.Problem{starting(mail)}, nil, 0},
			{10 * time.Second, nil, []string{"solved mail", "solved mail"}, 0},
		},
		"another problem is told at once": {
			{0, []*deploy.Problem{starting(mail), conflict}, []string{"problem chat"}, 5 * time.Second},
			{time.Second, []*deploy.Problem{conflict}, nil, 0},
			{2 * time.Second, nil, []string{"solved chat"}, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			log, began := problemLog{log: slog.New(slog.NewTextHandler(&out, nil))}, time.Now()
			for _, s := range steps {
				var problems []problem
				for _, p := range s.problems {
					problems = append(problems, problemOf(p))
				}
				out.Reset()
				due := log.note(problems, began.Add(s.at))
				var got []string
				for line := range strings.Lines(out.String()) {
					got = append(got, host.Field(line, "msg")+" "+host.Field(line, "app"))
				}
				if strings.Join(got, ", ") != strings.Join(s.want, ", ") {
					t.Errorf("after %s: logged %q, want %q", s.at, got, s.want)
				}
				if s.due == 0 != due.IsZero() || s.due > 0 && !due.Equal(began.Add(s.due)) {
					t.Errorf("after %s: the next is due at %s, want %s", s.at, due.Sub(began), s.due)
				}
			}
		})
	}
}

func TestHostProblems(t *testing.T) {
	lasting, other := errors.New("global.toml: line 1"), errors.New("HAProxy is gone")
	around := fmt.Errorf("it was %w, then %w", lasting, other)
	var texts []string
	for _, p := range hostProblems(errors.Join(errors.Join(lasting, around), other)) {
		texts = append(texts, p.text)
	}
	if want := []string{lasting.Error(), around.Error(), other.Error()}; !slices.Equal(texts, want) {
		t.Errorf("got %q, want %q", texts, want)
	}
}
