package store

import (
	"context"
	"errors"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// The classes of a commit's failure.
var (
	// ErrConflict: a record is not at the revision that a write expects.
	ErrConflict = errors.New("a record changed in between")
	// ErrFenced: the writer is no longer who it says it is (not the leader, not
	// the session's holder). It must stop writing.
	ErrFenced = errors.New("the writer's fence does not hold")
	// ErrUnavailable: the store could not be reached; nothing is known of the
	// write.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrInvalid: the batch itself is wrong (see Check); it never succeeds.
	ErrInvalid = errors.New("the batch is not valid")
	// ErrTooLarge: one batch has more writes than a transaction may have.
	ErrTooLarge = errors.New("the batch has too many writes for one transaction")
)

// Fence is a condition on a commit that says that its writer is still who it
// was: the key exists and was created (or, if Modified is set, last modified)
// at that revision.
type Fence struct {
	// Key is a full key of the store, a record's Key.String() or the election's.
	Key      string
	Created  int64
	Modified int64
}

// Store is the control plane's one store. Its methods are safe for concurrent
// use.
type Store interface {
	// Snapshot is the newest snapshot; it never blocks.
	Snapshot() *model.Snapshot
	// Commit writes a batch, all or nothing, and answers its revision. Batches
	// of concurrent callers share transactions; each fails or succeeds alone.
	// The error is one of the classes above, or the context's.
	Commit(ctx context.Context, batch model.Batch, fences ...Fence) (revision int64, err error)
	// After waits until the snapshot shows the revision, and answers it.
	After(ctx context.Context, revision int64) (*model.Snapshot, error)
	// Subscribe gives a channel of capacity one that gets a value after every
	// change of the snapshot (many changes may give one value). cancel ends it.
	Subscribe() (wake <-chan struct{}, cancel func())
	// OnChange calls f after each change, in order, from one goroutine; f must
	// not block. cancel ends it.
	OnChange(f func(now *model.Snapshot, changes []model.Change)) (cancel func())
}
