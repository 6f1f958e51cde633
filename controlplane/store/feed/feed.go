package feed

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// Feed publishes snapshots. New makes one.
type Feed struct {
	current atomic.Pointer[model.Snapshot]

	mu        sync.Mutex
	closed    error
	waiters   map[*waiter]struct{}
	wakes     map[chan struct{}]struct{}
	observers []*observer
}

type waiter struct {
	revision int64
	done     chan struct{}
}

type observer struct {
	f     func(*model.Snapshot, []model.Change)
	ended atomic.Bool
}

// New makes a Feed whose newest snapshot is first.
func New(first *model.Snapshot) *Feed {
	f := &Feed{waiters: map[*waiter]struct{}{}, wakes: map[chan struct{}]struct{}{}}
	f.current.Store(first)
	return f
}

// Snapshot is the newest snapshot.
func (f *Feed) Snapshot() *model.Snapshot { return f.current.Load() }

// Set publishes a newer snapshot: it ends the waits that it satisfies, and
// wakes the subscribers if changed says that records differ.
func (f *Feed) Set(s *model.Snapshot, changed bool) {
	f.current.Store(s)
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.waiters {
		if w.revision <= s.Revision {
			close(w.done)
			delete(f.waiters, w)
		}
	}
	if !changed {
		return
	}
	for c := range f.wakes {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Notify tells the observers of the changes that led to s.
func (f *Feed) Notify(s *model.Snapshot, changes []model.Change) {
	f.mu.Lock()
	observers := f.observers
	f.mu.Unlock()
	for _, o := range observers {
		if !o.ended.Load() {
			o.f(s, changes)
		}
	}
}

// After waits until the newest snapshot is at the revision or later. It fails
// with the context's error, or with Close's.
func (f *Feed) After(ctx context.Context, revision int64) (*model.Snapshot, error) {
	if s := f.Snapshot(); s.Revision >= revision {
		return s, nil
	}
	w := &waiter{revision: revision, done: make(chan struct{})}
	f.mu.Lock()
	switch {
	case f.Snapshot().Revision >= revision:
		f.mu.Unlock()
		return f.Snapshot(), nil
	case f.closed != nil:
		f.mu.Unlock()
		return nil, f.closed
	}
	f.waiters[w] = struct{}{}
	f.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		f.mu.Lock()
		delete(f.waiters, w)
		f.mu.Unlock()
	}
	if s := f.Snapshot(); s.Revision >= revision {
		return s, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, f.closed
}

// Subscribe is store.Store's.
func (f *Feed) Subscribe() (wake <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wakes[c] = struct{}{}
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.wakes, c)
	}
}

// OnChange is store.Store's. No call begins after cancel; one that runs may
// still be running.
func (f *Feed) OnChange(fn func(now *model.Snapshot, changes []model.Change)) (cancel func()) {
	o := &observer{f: fn}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.observers = append(slices.Clip(f.observers), o)
	return func() {
		o.ended.Store(true)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.observers = slices.DeleteFunc(slices.Clone(f.observers), func(x *observer) bool { return x == o })
	}
}

// Close ends every wait with err, those to come too.
func (f *Feed) Close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = err
	for w := range f.waiters {
		close(w.done)
		delete(f.waiters, w)
	}
}
