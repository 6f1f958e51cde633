package memory

import (
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

// Fault has f asked before each commit: an error that it answers (ErrConflict,
// ErrFenced, ErrUnavailable or any other) is Commit's, and nothing is written.
// f may block, to delay a commit. nil ends it.
func (s *Store) Fault(f func(model.Batch) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Hold stops the snapshot from following commits, as if the watch lagged.
func (s *Store) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = true
}

// Held is how many commits are not shown yet.
func (s *Store) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

// Show shows the n oldest commits that were not shown, and holds on.
func (s *Store) Show(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(min(n, len(s.pending)))
}

// Release shows everything, and lets the snapshot follow commits again.
func (s *Store) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	s.release(len(s.pending))
}

// Truth is the snapshot of what is committed, also while the snapshot is held.
func (s *Store) Truth() *model.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.truth
}

// Elect puts the key of an election anew, as a campaign that is won does, and
// answers the fence of the term. Fences of earlier terms hold no more.
func (s *Store) Elect(key string) store.Fence {
	s.mu.Lock()
	defer s.mu.Unlock()
	revision := s.truth.Revision + 1
	s.versions[key] = version{created: revision, modified: revision}
	s.show(event{snapshot: s.truth.With(revision, nil)})
	return store.Fence{Key: key, Created: revision}
}

// Depose deletes the key of an election: its fences hold no more.
func (s *Store) Depose(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.versions, key)
	s.show(event{snapshot: s.truth.With(s.truth.Revision+1, nil)})
}
