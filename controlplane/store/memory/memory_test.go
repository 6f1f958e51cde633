package memory_test

import (
	"context"
	"errors"
	"testing"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	"github.com/plimsoll-project/plimsoll/controlplane/store/memory"
	"github.com/plimsoll-project/plimsoll/controlplane/store/storetest"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open:      func(*testing.T) store.Store { return memory.New() },
		Elect:     func(_ *testing.T, s store.Store, key string) store.Fence { return s.(*memory.Store).Elect(key) },
		Depose:    func(_ *testing.T, s store.Store, key string) { s.(*memory.Store).Depose(key) },
		MaxTxnOps: memory.DefaultMaxTxnOps,
	})
}

func write(name string) model.Batch {
	return model.Batch{{Key: model.Key{Kind: model.KindCluster, ID: name}, Value: &pb.ClusterRecord{}}}
}

func TestHeldSnapshotsAreStaleUntilShown(t *testing.T) {
	s := memory.New()
	s.Hold()
	ctx := context.Background()
	for _, name := range []string{"a", "b", "c"} {
		if _, err := s.Commit(ctx, write(name)); err != nil {
			t.Fatal(err)
		}
	}
	if n, held := s.Snapshot().Clusters().Len(), s.Held(); n != 0 || held != 3 {
		t.Fatalf("%d shown, %d held", n, held)
	}
	if _, err := s.Commit(ctx, write("a")); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("a held commit does not count: %v", err)
	}
	s.Show(2)
	if n := s.Snapshot().Clusters().Len(); n != 2 {
		t.Fatalf("%d shown, want 2", n)
	}
	s.Release()
	if s.Snapshot() != s.Truth() || s.Truth().Clusters().Len() != 3 {
		t.Fatal("the released snapshot is not the truth")
	}
}

func TestFaultFailsCommits(t *testing.T) {
	s := memory.New()
	s.Fault(func(model.Batch) error { return store.ErrUnavailable })
	if _, err := s.Commit(context.Background(), write("a")); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("commit: %v", err)
	}
	s.Fault(nil)
	if _, err := s.Commit(context.Background(), write("a")); err != nil {
		t.Fatal(err)
	}
}
