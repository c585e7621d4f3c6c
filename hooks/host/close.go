package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/hooks/settings"
)

// What closes public ports works whatever else is broken: Docker, an engine, a settings file or the disk. It goes as far as anything
// can be asked, keeps what it could write down, and says what is left to do. Only what opens something may be refused.

// Salvaged is the host for whoever closes or shows something: of broken settings it goes by what can be read.
func (h *Host) Salvaged() *Host {
	s := &Host{
		Env: h.Env, Out: h.Out, Stdin: h.Stdin, Stdout: h.Stdout, Stderr: h.Stderr,
		State: h.State, Settings: settings.Store{Dir: h.Settings.Dir, Salvage: true},
		runDir: h.runDir, Control: h.Control, Node: h.Node, Daemon: h.Daemon, Log: h.Log,
	}
	// The client is this host's to close. That there is none is said by whoever needs it.
	s.dockerClient, _ = h.Docker()
	return s
}

// Broken says what can't be read of the host's settings and of those of apps.
func (h *Host) Broken(apps ...string) error {
	_, err := h.Settings.LoadGlobal()
	errs := []error{err}
	for _, app := range apps {
		_, err := h.Settings.Load(app)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Give is what an app gives up.
type Give struct {
	App string
	// Gone tells which of the app's public addresses it gives up.
	Gone func(deploy.Key) bool
	// Write writes that down, nil where it is.
	Write func() error
	// Again is how to have it written down once what keeps it from that is mended.
	Again string
}

// All is every address.
func All(deploy.Key) bool { return true }

// GiveUp writes down that an app is to have fewer public ports, closes these, and says which, before anybody waits for Docker. What is
// written stays, and so does what is closed. The error says what is not done, and what completes it. The caller has the
// lock from Locked.
func (h *Host) GiveUp(ctx context.Context, lock *deploy.Lock, g Give) (outcome deploy.Outcome, closed []deploy.Key, err error) {
	s := h.Salvaged()
	open, unasked := s.openOf(ctx, g)
	var unwritten error
	if g.Write != nil {
		unwritten = g.Write()
	}
	var left []deploy.Key
	var unclosed error
	if len(open) > 0 || unasked != nil {
		left, unclosed = s.shut(ctx, lock, g)
	}

	if unclosed == nil || len(left) > 0 {
		closed = slices.DeleteFunc(open, func(l deploy.Key) bool { return slices.Contains(left, l) })
	}
	if len(closed) > 0 {
		h.Out.Step("Closed public ports of %s: %s", g.App, deploy.PublicAddresses(closed))
		h.Log.Info("close", "app", g.App, "public", deploy.PublicAddresses(closed))
	}
	// By what is written they would be opened again, and an engine that hangs has been waited for.
	if unwritten == nil && unclosed == nil {
		var unmade error
		if outcome, unmade = h.Reconcile(ctx, lock); unmade != nil {
			h.Out.Warn("%v", unmade)
			outcome = deploy.Outcome{} // It does not tell what is served by now.
		}
	}
	var errs []error
	if unclosed != nil {
		what := "whether public ports of " + g.App + " are open still is not known"
		if len(left) > 0 {
			what = "public ports of " + g.App + " are open still: " + deploy.PublicAddresses(left)
		}
		errs = append(errs, unclosed, fmt.Errorf("%s; they are closed when that is mended, at once by: dokku expose:sync", what))
	}
	if unwritten != nil {
		errs = append(errs, unwritten, fmt.Errorf("that %s gives up public ports could not be written down, so they may be opened again; when that is mended, run: %s", g.App, g.Again))
	}
	return outcome, closed, errors.Join(errs...)
}

// errStillServed is for an engine that goes on with what it said it had closed.
var errStillServed = errors.New("the engine goes on serving")

// shut closes what an app has given up. It returns what is open still, none where that is not known, and why.
func (h *Host) shut(ctx context.Context, lock *deploy.Lock, g Give) (left []deploy.Key, err error) {
	err = h.eachEngine(ctx, func(ctx context.Context, e deploy.Engine) error {
		r := deploy.Reconciler{Host: h, Engine: e}
		outcome, err := r.Close(ctx, lock, func(app string, f deploy.Key) bool { return app == g.App && g.Gone(f) })
		h.Record(outcome)
		return err
	})
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, err // Another question would not be answered either.
	}
	left, unasked := h.openOf(ctx, g)
	if len(left) == 0 && unasked == nil {
		return nil, nil
	}
	return left, cmp.Or(errors.Join(err, unasked), errStillServed)
}

// openOf are the addresses that an app is to give up and is served at now, by any engine.
func (h *Host) openOf(ctx context.Context, g Give) (open []deploy.Key, err error) {
	err = h.eachEngine(ctx, func(ctx context.Context, e deploy.Engine) error {
		o, err := e.Observe(ctx)
		for listen, service := range o.Serving() {
			if service.App == g.App && g.Gone(listen) {
				open = append(open, listen)
			}
		}
		return err
	})
	slices.SortFunc(open, deploy.Key.Compare)
	return open, err
}

// eachEngine has do called with the engine in force, and with the other one, which was moved away from, or is in force by what can't be
// read. The error is that of the engine in force: a reconcile warns of the other one.
func (h *Host) eachEngine(ctx context.Context, do func(context.Context, deploy.Engine) error) error {
	w, err := h.Wire()
	if err != nil {
		return err
	}
	inForce, err := w.inForce()
	if err == nil {
		err = do(ctx, inForce)
	}
	if other, _, otherErr := w.otherEngine(); otherErr == nil && other != nil {
		ctx, cancel := context.WithTimeout(ctx, deploy.AskOther)
		defer cancel()
		_ = do(ctx, other)
	}
	return err
}
