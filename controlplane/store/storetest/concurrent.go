package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

// testConcurrentCounters: writers that read, add one and compare never lose an
// addition, though their batches share transactions.
func testConcurrentCounters(t *testing.T, h Harness) {
	const writers, rounds, counters = 8, 15, 3
	s := h.Open(t)
	for i := range counters {
		after(t, s, commit(t, s, model.Batch{put(fmt.Sprint("n", i), "0", 0)}))
	}
	ctx := within(t)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			name := fmt.Sprint("n", w%counters)
			for done := 0; done < rounds; {
				row, _ := s.Snapshot().Clusters().Get(name)
				n, err := strconv.Atoi(row.Value.GetCluster().GetStatus())
				if err != nil {
					t.Errorf("counter %s: %v", name, err)
					return
				}
				rev, err := s.Commit(ctx, model.Batch{put(name, strconv.Itoa(n+1), row.Revision)})
				switch {
				case errors.Is(err, store.ErrConflict):
					rev = row.Revision + 1
				case err != nil:
					t.Errorf("add to %s: %v", name, err)
					return
				default:
					done++
				}
				if _, err := s.After(ctx, rev); err != nil {
					t.Errorf("wait for %d: %v", rev, err)
					return
				}
			}
		})
	}
	all.Wait()
	snap := after(t, s, commit(t, s, model.Batch{put("end", "x", 0)}))
	total := 0
	for name, row := range snap.Clusters().Prefix("n") {
		n, err := strconv.Atoi(row.Value.GetCluster().GetStatus())
		if err != nil {
			t.Fatalf("counter %s: %v", name, err)
		}
		total += n
	}
	if total != writers*rounds {
		t.Fatalf("counted %d, want %d", total, writers*rounds)
	}
}

func testConcurrentCreate(t *testing.T, h Harness) {
	const writers, names = 6, 10
	s := h.Open(t)
	ctx := within(t)
	var mu sync.Mutex
	won := map[string]int{}
	var all sync.WaitGroup
	for w := range writers {
		for n := range names {
			all.Go(func() {
				name := fmt.Sprint("c", n)
				_, err := s.Commit(ctx, model.Batch{put(name, fmt.Sprint(w), 0), put(fmt.Sprintf("%s-%d", name, w), "x", 0)})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won[name]++
				} else if !errors.Is(err, store.ErrConflict) {
					t.Errorf("create %s: %v", name, err)
				}
			})
		}
	}
	all.Wait()
	for n := range names {
		if name := fmt.Sprint("c", n); won[name] != 1 {
			t.Errorf("%s was created %d times", name, won[name])
		}
	}
	snap := after(t, s, commit(t, s, model.Batch{put("end", "x", 0)}))
	if got := snap.Clusters().Len(); got != 2*names+1 {
		t.Errorf("%d records, want %d: a refused batch wrote", got, 2*names+1)
	}
}

// testConflictsDoNotSpread: batches that cannot succeed fail alone.
func testConflictsDoNotSpread(t *testing.T, h Harness) {
	const writers = 40
	s := h.Open(t)
	fence := h.Elect(t, s, "/plimsoll-test/leader")
	stale := fence
	fence = h.Elect(t, s, "/plimsoll-test/leader")
	commit(t, s, model.Batch{put("taken", "x", 0)})
	ctx := within(t)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			batch, f, want := model.Batch{put(fmt.Sprint("w", w), "x", 0)}, fence, error(nil)
			switch w % 4 {
			case 1:
				batch, want = append(batch, put("taken", "y", 0)), store.ErrConflict
			case 2:
				f, want = stale, store.ErrFenced
			}
			if _, err := s.Commit(ctx, batch, f); !errors.Is(err, want) {
				t.Errorf("writer %d: %v, want %v", w, err, want)
			}
		})
	}
	all.Wait()
	snap := after(t, s, commit(t, s, model.Batch{put("end", "x", 0)}))
	for w := range writers {
		if _, there := snap.Clusters().Get(fmt.Sprint("w", w)); there != (w%4 == 0 || w%4 == 3) {
			t.Errorf("writer %d: record there is %v", w, there)
		}
	}
}

// testOneWritersOrder: writes of one key take effect in the order in which
// their Commits returned, and revisions tell the order.
func testOneWritersOrder(t *testing.T, h Harness) {
	const writers, rounds = 4, 25
	s := h.Open(t)
	ctx := within(t)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			var last int64
			for i := range rounds {
				rev, err := s.Commit(ctx, model.Batch{put(fmt.Sprint("k", w), fmt.Sprint(i), last)})
				if err != nil || rev <= last {
					t.Errorf("writer %d, write %d: revision %d after %d, %v", w, i, rev, last, err)
					return
				}
				last = rev
			}
			snap, err := s.After(ctx, last)
			if err != nil {
				t.Errorf("writer %d: %v", w, err)
				return
			}
			if row, _ := snap.Clusters().Get(fmt.Sprint("k", w)); row.Value.GetCluster().GetStatus() != fmt.Sprint(rounds-1) {
				t.Errorf("writer %d: %v at the end", w, row.Value)
			}
		})
	}
	all.Wait()
}

// testConcurrentFences: while an election changes hands, at no time do writes
// of the earlier term follow those of the later.
func testConcurrentFences(t *testing.T, h Harness) {
	const key = "/plimsoll-test/leader"
	s := h.Open(t)
	old := h.Elect(t, s, key)
	ctx := within(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	var newest int64
	started := make(chan struct{}, 1)
	for w := range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				rev, err := s.Commit(ctx, model.Batch{put(fmt.Sprintf("old-%d-%d", w, i), "x", 0)}, old)
				if errors.Is(err, store.ErrFenced) {
					return
				}
				if err != nil {
					t.Errorf("write as the old leader: %v", err)
					return
				}
				mu.Lock()
				newest = max(newest, rev)
				mu.Unlock()
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	<-started
	fence := h.Elect(t, s, key)
	first := commit(t, s, model.Batch{put("new", "x", 0)}, fence)
	all.Wait()
	if newest >= fence.Created || newest >= first {
		t.Fatalf("the old leader wrote at %d, deposed at %d", newest, fence.Created)
	}
}
