package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func testAfterWaits(t *testing.T, h Harness) {
	s := h.Open(t)
	next := s.Snapshot().Revision + 1
	type answer struct {
		snap *model.Snapshot
		err  error
	}
	done := make(chan answer, 8)
	ctx := within(t)
	for range cap(done) {
		go func() {
			snap, err := s.After(ctx, next)
			done <- answer{snap, err}
		}()
	}
	commit(t, s, model.Batch{put("a", "one", 0)})
	for range cap(done) {
		if a := <-done; a.err != nil || a.snap.Revision < next {
			t.Fatalf("After(%d): %v, %v", next, a.snap, a.err)
		}
	}
}

// testAfterSeesRevisionOfNoChange: a revision that Commit answered can be
// waited for, also if the commit changed nothing.
func testAfterSeesRevisionOfNoChange(t *testing.T, h Harness) {
	s := h.Open(t)
	h.Elect(t, s, "/plimsoll-test/other")
	after(t, s, commit(t, s, model.Batch{{Key: clusterKey("ghost"), If: model.AnyRevision}}))
	h.Elect(t, s, "/plimsoll-test/other")
	after(t, s, commit(t, s, model.Batch{{Key: clusterKey("ghost"), If: 0}}))
}

func testSubscribeWakes(t *testing.T, h Harness) {
	s := h.Open(t)
	wake, cancel := s.Subscribe()
	rev := commit(t, s, model.Batch{put("a", "one", 0)})
	for {
		select {
		case <-wake:
		case <-time.After(patience):
			t.Fatal("no wake after a commit")
		}
		if s.Snapshot().Revision >= rev {
			break
		}
	}
	cancel()
	cancel()
	after(t, s, commit(t, s, model.Batch{put("b", "one", 0)}))
	if len(wake) != 0 {
		t.Fatal("woken after cancel")
	}
}

func testOnChangeInOrder(t *testing.T, h Harness) {
	s := h.Open(t)
	type told struct {
		now     *model.Snapshot
		changes []model.Change
	}
	seen := make(chan told, 1000)
	cancel := s.OnChange(func(now *model.Snapshot, changes []model.Change) { seen <- told{now, changes} })
	defer cancel()
	const n = 50
	revs := map[string]int64{}
	for i := range n {
		name := fmt.Sprintf("c%d", i%7)
		revs[name] = commit(t, s, model.Batch{put(name, fmt.Sprint(i), revs[name])})
	}
	last := commit(t, s, model.Batch{{Key: clusterKey("c0"), If: revs["c0"]}})
	mirror := &model.Snapshot{}
	for mirror.Revision < last {
		var e told
		select {
		case e = <-seen:
		case <-time.After(patience):
			t.Fatalf("told up to revision %d, not %d", mirror.Revision, last)
		}
		if e.now.Revision <= mirror.Revision || len(e.changes) == 0 {
			t.Fatalf("told of revision %d with %d changes after %d", e.now.Revision, len(e.changes), mirror.Revision)
		}
		for _, c := range e.changes {
			if c.Revision <= mirror.Revision || c.Revision > e.now.Revision {
				t.Fatalf("change %v at %d in (%d, %d]", c.Key, c.Revision, mirror.Revision, e.now.Revision)
			}
		}
		mirror = mirror.With(e.now.Revision, e.changes)
		if got, want := mirror.Clusters().Len(), e.now.Clusters().Len(); got != want {
			t.Fatalf("revision %d: %d clusters by changes, %d in the snapshot", e.now.Revision, got, want)
		}
	}
	expect(t, mirror, "c0", "", 0)
	expect(t, mirror, "c1", "43", revs["c1"])
}

func testValuesAreCopied(t *testing.T, h Harness) {
	s := h.Open(t)
	record := &pb.ClusterRecord{Cluster: &pb.Cluster{ClusterName: "a", Status: "one"}}
	rev := commit(t, s, model.Batch{{Key: clusterKey("a"), Value: record}})
	record.Cluster.Status = "changed later"
	expect(t, after(t, s, rev), "a", "one", rev)
}
