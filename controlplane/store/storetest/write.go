package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func testCreateUpdateDelete(t *testing.T, h Harness) {
	s := h.Open(t)
	r1 := commit(t, s, model.Batch{put("a", "one", 0)})
	expect(t, after(t, s, r1), "a", "one", r1)
	r2 := commit(t, s, model.Batch{put("a", "two", r1)})
	if r2 <= r1 {
		t.Fatalf("revision went from %d to %d", r1, r2)
	}
	expect(t, after(t, s, r2), "a", "two", r2)
	r3 := commit(t, s, model.Batch{put("a", "three", model.AnyRevision)})
	expect(t, after(t, s, r3), "a", "three", r3)
	r4 := commit(t, s, model.Batch{{Key: clusterKey("a"), If: r3}})
	expect(t, after(t, s, r4), "a", "", 0)
	r5 := commit(t, s, model.Batch{put("a", "again", 0)})
	expect(t, after(t, s, r5), "a", "again", r5)
}

func testConflicts(t *testing.T, h Harness) {
	s := h.Open(t)
	rev := commit(t, s, model.Batch{put("a", "one", 0)})
	refuse(t, s, store.ErrConflict, model.Batch{put("a", "two", 0)})
	refuse(t, s, store.ErrConflict, model.Batch{put("a", "two", rev+1)})
	refuse(t, s, store.ErrConflict, model.Batch{put("b", "two", rev)})
	refuse(t, s, store.ErrConflict, model.Batch{{Key: clusterKey("a"), If: 0}})
	refuse(t, s, store.ErrConflict, model.Batch{{Key: clusterKey("b"), If: rev}})
	refuse(t, s, store.ErrConflict, model.Batch{{Key: clusterKey("a"), If: rev + 7}})
	expect(t, after(t, s, rev), "a", "one", rev)
}

func testBatchIsAtomic(t *testing.T, h Harness) {
	s := h.Open(t)
	rev := commit(t, s, model.Batch{put("a", "one", 0), put("b", "one", 0)})
	snap := after(t, s, rev)
	expect(t, snap, "a", "one", rev)
	expect(t, snap, "b", "one", rev)
	refuse(t, s, store.ErrConflict, model.Batch{put("c", "one", 0), put("a", "two", rev), put("b", "two", 0)})
	next := commit(t, s, model.Batch{put("d", "one", 0), {Key: clusterKey("b"), If: rev}})
	snap = after(t, s, next)
	expect(t, snap, "a", "one", rev)
	expect(t, snap, "b", "", 0)
	expect(t, snap, "c", "", 0)
	expect(t, snap, "d", "one", next)
}

func testInvalidBatches(t *testing.T, h Harness) {
	s := h.Open(t)
	var none *pb.ClusterRecord
	for name, b := range map[string]model.Batch{
		"same key twice":  {put("a", "one", 0), put("a", "two", 0)},
		"unknown kind":    {{Key: model.Key{Kind: "ghosts", ID: "a"}, Value: cluster("a", "one")}},
		"no id":           {{Key: model.Key{Kind: model.KindCluster}, Value: cluster("a", "one")}},
		"slash in clust.": {{Key: model.Key{Kind: model.KindTask, Cluster: "a/b", ID: "c"}, Value: &pb.TaskRecord{}}},
		"other type":      {{Key: clusterKey("a"), Value: &pb.TaskRecord{}}},
		"typed nil":       {{Key: clusterKey("a"), Value: none}},
		"revision":        {put("a", "one", -2)},
	} {
		t.Run(name, func(t *testing.T) { refuse(t, s, store.ErrInvalid, b) })
	}
}

func testTooLarge(t *testing.T, h Harness) {
	s := h.Open(t)
	fence := h.Elect(t, s, "/plimsoll-test/leader")
	batch := make(model.Batch, h.MaxTxnOps)
	for i := range batch {
		batch[i] = put(fmt.Sprintf("c%05d", i), "x", 0)
	}
	refuse(t, s, store.ErrTooLarge, batch, fence)
	rev := commit(t, s, batch[1:], fence)
	if n := after(t, s, rev).Clusters().Len(); n != len(batch)-1 {
		t.Fatalf("%d clusters, want %d", n, len(batch)-1)
	}
}

func testEmptyBatch(t *testing.T, h Harness) {
	s := h.Open(t)
	rev := commit(t, s, nil)
	after(t, s, rev)
	fence := h.Elect(t, s, "/plimsoll-test/leader")
	after(t, s, commit(t, s, nil, fence))
	h.Depose(t, s, "/plimsoll-test/leader")
	refuse(t, s, store.ErrFenced, nil, fence)
}

func testElectionFence(t *testing.T, h Harness) {
	const key = "/plimsoll-test/leader"
	s := h.Open(t)
	first := h.Elect(t, s, key)
	rev := commit(t, s, model.Batch{put("a", "one", 0)}, first)
	second := h.Elect(t, s, key)
	refuse(t, s, store.ErrFenced, model.Batch{put("a", "two", rev)}, first)
	rev = commit(t, s, model.Batch{put("a", "three", rev)}, second)
	h.Depose(t, s, key)
	refuse(t, s, store.ErrFenced, model.Batch{put("a", "four", rev)}, second)
	refuse(t, s, store.ErrFenced, model.Batch{put("a", "four", rev)}, store.Fence{Key: key})
	expect(t, after(t, s, rev), "a", "three", rev)
}

func testRecordFence(t *testing.T, h Harness) {
	s := h.Open(t)
	session := model.Key{Kind: model.KindSession, Cluster: "c", ID: "i"}
	r1 := commit(t, s, model.Batch{{Key: session, Value: &pb.SessionRecord{Epoch: 1}}})
	created := store.Fence{Key: session.String(), Created: r1}
	modified := store.Fence{Key: session.String(), Modified: r1}
	commit(t, s, model.Batch{put("a", "one", 0)}, created, modified)
	r2 := commit(t, s, model.Batch{{Key: session, Value: &pb.SessionRecord{Epoch: 2}, If: r1}})
	refuse(t, s, store.ErrFenced, model.Batch{put("b", "one", 0)}, modified)
	commit(t, s, model.Batch{put("b", "one", 0)}, created)
	commit(t, s, model.Batch{put("c", "one", 0)}, store.Fence{Key: session.String(), Modified: r2})
	commit(t, s, model.Batch{{Key: session, If: r2}})
	refuse(t, s, store.ErrFenced, model.Batch{put("d", "one", 0)}, created)
}

func testFenceBeforeConflict(t *testing.T, h Harness) {
	s := h.Open(t)
	fence := h.Elect(t, s, "/plimsoll-test/leader")
	commit(t, s, model.Batch{put("a", "one", 0)})
	h.Depose(t, s, "/plimsoll-test/leader")
	refuse(t, s, store.ErrFenced, model.Batch{put("a", "two", 0)}, fence)
}

func testCancelledContext(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Commit(ctx, model.Batch{put("a", "one", 0)}); !errors.Is(err, context.Canceled) {
		t.Fatalf("commit: %v", err)
	}
	if _, err := s.After(ctx, s.Snapshot().Revision+1000); !errors.Is(err, context.Canceled) {
		t.Fatalf("after: %v", err)
	}
	rev := commit(t, s, model.Batch{put("b", "one", 0)})
	expect(t, after(t, s, rev), "a", "", 0)
}
