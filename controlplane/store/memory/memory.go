package memory

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	"github.com/plimsoll-project/plimsoll/controlplane/store/feed"
)

// DefaultMaxTxnOps is etcd's own default for how much one batch may write.
const DefaultMaxTxnOps = 128

// Store is a store.Store in memory. New makes one.
type Store struct {
	*feed.Feed
	// MaxTxnOps bounds a batch's writes and fences together. Set it before use.
	MaxTxnOps int

	mu       sync.Mutex
	truth    *model.Snapshot // what is committed; ahead of the feed's while held
	versions map[string]version
	fault    func(model.Batch) error
	held     bool
	pending  []event // committed and not shown
	untold   []event // shown, and observers not told
	telling  bool
}

var _ store.Store = (*Store)(nil)

// version is a key's creation and modification revision.
type version struct{ created, modified int64 }

type event struct {
	snapshot *model.Snapshot
	changes  []model.Change
}

// New makes an empty store. Its revision is 1, as in a new etcd.
func New() *Store {
	first := &model.Snapshot{Revision: 1}
	return &Store{Feed: feed.New(first), MaxTxnOps: DefaultMaxTxnOps, truth: first, versions: map[string]version{}}
}

// Commit is store.Store's.
func (s *Store) Commit(ctx context.Context, batch model.Batch, fences ...store.Fence) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := store.Check(batch); err != nil {
		return 0, err
	}
	if n := len(batch) + len(fences); n > s.MaxTxnOps {
		return 0, fmt.Errorf("commit %d operations, %d at most: %w", n, s.MaxTxnOps, store.ErrTooLarge)
	}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault != nil {
		if err := fault(batch); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range fences {
		v := s.versions[f.Key]
		if f.Created == 0 && f.Modified == 0 || f.Modified != 0 && v.modified != f.Modified || f.Modified == 0 && v.created != f.Created {
			return 0, fmt.Errorf("commit fenced by %s: %w", f.Key, store.ErrFenced)
		}
	}
	for _, w := range batch {
		if at := s.versions[w.Key.String()].modified; w.If != model.AnyRevision && at != w.If {
			return 0, fmt.Errorf("write %s: at revision %d, not %d: %w", w.Key, at, w.If, store.ErrConflict)
		}
	}
	s.apply(batch)
	return s.truth.Revision, nil
}

// apply writes a batch whose conditions hold. The caller holds mu.
func (s *Store) apply(batch model.Batch) {
	revision := s.truth.Revision + 1
	changes := make([]model.Change, 0, len(batch))
	for _, w := range batch {
		key := w.Key.String()
		v, exists := s.versions[key]
		switch {
		case w.Value != nil:
			if !exists {
				v.created = revision
			}
			v.modified = revision
			s.versions[key] = v
			changes = append(changes, model.Change{Key: w.Key, Value: proto.Clone(w.Value), Revision: revision})
		case exists:
			delete(s.versions, key)
			changes = append(changes, model.Change{Key: w.Key, Revision: revision})
		}
	}
	if len(changes) > 0 {
		s.show(event{snapshot: s.truth.With(revision, changes), changes: changes})
	}
}

// show makes a new truth, and publishes it unless snapshots are held.
func (s *Store) show(e event) {
	s.truth = e.snapshot
	s.pending = append(s.pending, e)
	if !s.held {
		s.release(len(s.pending))
	}
}

// release publishes the n oldest commits that were not shown.
func (s *Store) release(n int) {
	for _, e := range s.pending[:n] {
		s.Feed.Set(e.snapshot, len(e.changes) > 0)
		if len(e.changes) > 0 {
			s.untold = append(s.untold, e)
		}
	}
	s.pending = s.pending[n:]
	if len(s.untold) > 0 && !s.telling {
		s.telling = true
		go s.tell()
	}
}

// tell calls the observers until nothing is left to tell.
func (s *Store) tell() {
	for {
		s.mu.Lock()
		if len(s.untold) == 0 {
			s.telling = false
			s.mu.Unlock()
			return
		}
		e := s.untold[0]
		s.untold = s.untold[1:]
		s.mu.Unlock()
		s.Feed.Notify(e.snapshot, e.changes)
	}
}
