package host

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"dokku-expose/deploy"
)

// lockTimeout bounds how long a process waits for the others. A reconcile takes well under a second; a deploy that waits
// longer than this has found a process that hangs.
const lockTimeout = 2 * time.Minute

// changeTimeout bounds what is done while the lock is held, below lockTimeout: those who wait find out what became of it.
const changeTimeout = time.Minute

// lock waits for the host-wide lock.
func (h *Host) lock(ctx context.Context) (*deploy.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	return deploy.Acquire(ctx, filepath.Join(h.Env.DataDir(), "lock"))
}

// UnderLock runs change with the host-wide lock held. Whoever goes away meanwhile (the user's ssh connection drops) ends
// the wait for the lock, but not the change: half a switch would be worse than one that nobody waits for.
func (h *Host) UnderLock(ctx context.Context, change func(context.Context, *deploy.Lock) error) error {
	if h.Watched == nil {
		h.hurry(ctx)
	}
	return h.Locked(ctx, change)
}

// Locked is UnderLock for what does not have to wait for Docker first.
func (h *Host) Locked(ctx context.Context, change func(context.Context, *deploy.Lock) error) (err error) {
	lock, err := h.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if h.Watched == nil {
		defer h.askBriefly()()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTimeout)
	defer cancel()
	return change(ctx, lock)
}

// hurriedAnswer is what a Docker that did not answer is waited for once more.
const hurriedAnswer = time.Second

// hurry waits for a Docker that hangs before the lock is held, not with it: the daemon, which takes servers out of service that
// are gone meanwhile, needs the lock for that.
func (h *Host) hurry(ctx context.Context) {
	client, err := h.Docker()
	if err != nil {
		return // Whoever needs it says so.
	}
	if client.Ping(ctx) != nil {
		client.Bound(hurriedAnswer)
	}
}

// askBriefly has Docker, which may begin to hang at any time, wait for no longer than the daemon would while the lock is held.
func (h *Host) askBriefly() (restore func()) {
	client, err := h.Docker()
	if err != nil {
		return func() {}
	}
	former := client.Bound(DaemonPatience)
	client.Bound(min(former, DaemonPatience))
	return func() { client.Bound(former) }
}

// DaemonPatience is how long the daemon waits for an answer of Docker's: far longer than one with a thousand containers needs. It
// must not take one that hangs for one that is only slow, nor wait for it with the host-wide lock held.
const DaemonPatience = 5 * time.Second
