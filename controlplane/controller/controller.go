package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

const (
	// DefaultResync is how often a controller steps though nothing changed.
	DefaultResync = 30 * time.Second
	// conflictRetry is when a step that met conflicts is repeated though the
	// snapshot has not changed since. It is a net: the write that was faster
	// wakes the controller, as a rule.
	conflictRetry = 100 * time.Millisecond
	// parallel bounds one step's commits under way; the store coalesces them.
	parallel = 256
)

// Controller runs one decider. Name, Store and Plan are required.
type Controller struct {
	Name  string
	Store store.Store
	// Fences are the leader's; every commit carries them.
	Fences []store.Fence
	// Plan decides. It is pure.
	Plan func(s *model.Snapshot, now time.Time) model.Plan
	// Lock, if not nil, is held from before the snapshot is read until it shows
	// the step's writes, to exclude others that decide on the same figures.
	Lock sync.Locker
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Resync is DefaultResync if zero.
	Resync time.Duration
	// Timed controllers step at every resync and when a plan asks for it, whatever
	// changes.
	Timed   bool
	Logger  *slog.Logger // none logs nothing
	Metrics *Metrics     // none counts nothing
}

// Result is what a Step did.
type Result struct {
	// Writes is how many records were written.
	Writes int
	// Conflicts is how many batches were refused because a record had changed;
	// they are to be planned again.
	Conflicts int
	// WakeAt is when to step again though nothing changes; zero for when
	// something does.
	WakeAt time.Time
}

// Step reads the snapshot, plans, commits every batch, and waits until the
// snapshot shows what was written, so that the next Step sees it. Conflicts are
// counted, not waited for. Another failure of a commit is the error; the other
// batches may be written.
func (c *Controller) Step(ctx context.Context, now time.Time) (Result, error) {
	if c.Lock != nil {
		c.Lock.Lock()
		defer c.Lock.Unlock()
	}
	plan := c.Plan(c.Store.Snapshot(), now)
	result := Result{WakeAt: plan.WakeAt}
	newest, err := c.apply(ctx, plan.Batches, &result)
	if err != nil {
		return result, fmt.Errorf("apply the plan of %s: %w", c.Name, err)
	}
	if newest > 0 {
		if _, err := c.Store.After(ctx, newest); err != nil {
			return result, fmt.Errorf("wait for the writes of %s: %w", c.Name, err)
		}
	}
	return result, nil
}

// apply commits the batches side by side, and answers the newest revision.
func (c *Controller) apply(ctx context.Context, batches []model.Batch, result *Result) (newest int64, err error) {
	var mu sync.Mutex
	commit := func(ctx context.Context, batch model.Batch) error {
		revision, err := c.Store.Commit(ctx, batch, c.Fences...)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			result.Writes += len(batch)
			newest = max(newest, revision)
		case errors.Is(err, store.ErrConflict):
			result.Conflicts++
		default:
			return err
		}
		return nil
	}
	if len(batches) == 1 {
		err = commit(ctx, batches[0])
		return newest, err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, b := range batches {
		if len(b) > 0 {
			group.Go(func() error { return commit(gctx, b) })
		}
	}
	err = group.Wait()
	return newest, err
}

// Run steps at once, after every change of the snapshot, when a plan asks for
// it, and at every resync, until ctx ends or a step fails. It returns the
// step's error, nil when ctx ended.
func (c *Controller) Run(ctx context.Context) error {
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	clock := c.Now
	if clock == nil {
		clock = time.Now
	}
	resync := c.Resync
	if resync <= 0 {
		resync = DefaultResync
	}
	var wake <-chan struct{}
	if !c.Timed {
		var cancel func()
		wake, cancel = c.Store.Subscribe()
		defer cancel()
	}
	for {
		began := clock()
		result, err := c.Step(ctx, began)
		c.Metrics.step(c.Name, clock().Sub(began).Seconds(), result)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if result.Writes > 0 || result.Conflicts > 0 {
			log.Debug("stepped", "controller", c.Name, "writes", result.Writes, "conflicts", result.Conflicts)
		}
		timer := time.NewTimer(c.pause(result, clock(), resync))
		select {
		case <-wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// minimumPause bounds how often a plan that asks for a time that has come (and
// writes nothing) is made.
const minimumPause = time.Millisecond

// pause is how long to sleep if nothing changes.
func (c *Controller) pause(r Result, now time.Time, resync time.Duration) time.Duration {
	pause := resync
	if r.Conflicts > 0 {
		pause = min(pause, conflictRetry)
	}
	if !r.WakeAt.IsZero() {
		pause = min(pause, max(r.WakeAt.Sub(now), minimumPause))
	}
	return pause
}

// RunAll runs controllers side by side until ctx ends or one fails, waits for
// all, and returns the first failure. It is a leader's work.
func RunAll(ctx context.Context, controllers ...*Controller) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range controllers {
		group.Go(func() error { return c.Run(ctx) })
	}
	return group.Wait()
}
