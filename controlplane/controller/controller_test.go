package controller

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	"github.com/plimsoll-project/plimsoll/controlplane/store/memory"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func key(name string) model.Key { return model.Key{Kind: model.KindCluster, ID: name} }

func write(name, value string, revision int64) model.Write {
	return model.Write{Key: key(name), If: revision,
		Value: &pb.ClusterRecord{Cluster: &pb.Cluster{ClusterName: name, Status: value}}}
}

func read(s *model.Snapshot, name string) (string, int64) {
	row, _ := s.Clusters().Get(name)
	return row.Value.GetCluster().GetStatus(), row.Revision
}

// upTo is a decider that counts n up to a goal, one a step.
func upTo(name string, goal int) func(*model.Snapshot, time.Time) model.Plan {
	return func(s *model.Snapshot, _ time.Time) model.Plan {
		value, rev := read(s, name)
		n, _ := strconv.Atoi(value)
		if n >= goal {
			return model.Plan{}
		}
		return model.Plan{Batches: []model.Batch{{write(name, strconv.Itoa(n+1), rev)}}}
	}
}

func metrics(t *testing.T) *Metrics {
	m, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestStepSeesItsOwnWrites(t *testing.T) {
	s := memory.New()
	c := &Controller{Name: "count", Store: s, Plan: upTo("n", 3)}
	for i := range 5 {
		r, err := c.Step(t.Context(), time.Time{})
		if err != nil || r.Conflicts != 0 {
			t.Fatalf("step %d: %+v, %v", i, r, err)
		}
	}
	if n, _ := read(s.Snapshot(), "n"); n != "3" {
		t.Fatalf("counted to %s", n)
	}
}

func TestStepCommitsIndependentBatches(t *testing.T) {
	s := memory.New()
	if _, err := s.Commit(t.Context(), model.Batch{write("b7", "taken", 0)}); err != nil {
		t.Fatal(err)
	}
	c := &Controller{Name: "many", Store: s, Plan: func(*model.Snapshot, time.Time) model.Plan {
		var p model.Plan
		for i := range 1000 {
			p.Batches = append(p.Batches, model.Batch{write(fmt.Sprint("b", i), "x", 0)})
		}
		p.Batches = append(p.Batches, nil)
		p.Wake(time.Unix(7, 0))
		return p
	}}
	r, err := c.Step(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Result{Writes: 999, Conflicts: 1, WakeAt: time.Unix(7, 0)}); r != want {
		t.Fatalf("%+v, want %+v", r, want)
	}
	if n := s.Snapshot().Clusters().Len(); n != 1000 {
		t.Fatalf("%d records", n)
	}
}

func TestStepHoldsTheLockUntilItsWritesShow(t *testing.T) {
	s := memory.New()
	s.Hold()
	var lock sync.Mutex
	c := &Controller{Name: "locked", Store: s, Plan: upTo("n", 1), Lock: &lock}
	done := make(chan error, 1)
	go func() {
		_, err := c.Step(context.Background(), time.Time{})
		done <- err
	}()
	for s.Held() == 0 {
		select {
		case err := <-done:
			t.Fatalf("the step ended early: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	if lock.TryLock() {
		t.Fatal("the lock is free while the snapshot is stale")
	}
	s.Release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !lock.TryLock() {
		t.Fatal("the lock is still held")
	}
}

func TestRunReactsToChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		mirror := &Controller{Name: "mirror", Store: s, Metrics: metrics(t), Plan: func(s *model.Snapshot, _ time.Time) model.Plan {
			from, _ := read(s, "from")
			to, rev := read(s, "to")
			if from == to {
				return model.Plan{}
			}
			return model.Plan{Batches: []model.Batch{{write("to", from, rev)}}}
		}}
		go func() { done <- RunAll(ctx, mirror, &Controller{Name: "count", Store: s, Plan: upTo("n", 5)}) }()
		began := time.Now()
		for i := range 3 {
			if _, err := s.Commit(ctx, model.Batch{write("from", fmt.Sprint(i), model.AnyRevision)}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if to, _ := read(s.Snapshot(), "to"); to != fmt.Sprint(i) {
				t.Fatalf("mirrored %q, want %d", to, i)
			}
		}
		if n, _ := read(s.Snapshot(), "n"); n != "5" || !time.Now().Equal(began) {
			t.Fatalf("counted to %s in %v", n, time.Since(began))
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestRunWakesWhenThePlanAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var at []time.Duration
		c := &Controller{Name: "timed", Store: memory.New(), Resync: time.Minute, Plan: func(_ *model.Snapshot, now time.Time) (p model.Plan) {
			at = append(at, now.Sub(began))
			if len(at) < 3 {
				p.Wake(now.Add(7 * time.Second))
			}
			return p
		}}
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		<-time.After(2 * time.Minute) // the bubble's time
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(at); got != "[0s 7s 14s 1m14s]" {
			t.Fatalf("stepped at %s", got)
		}
	})
}

func TestTimedIgnoresChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		ctx, cancel := context.WithCancel(t.Context())
		steps := 0
		c := &Controller{Name: "timed", Store: s, Timed: true, Resync: time.Minute, Plan: func(*model.Snapshot, time.Time) model.Plan {
			steps++
			return model.Plan{}
		}}
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		for i := range 90 {
			time.Sleep(time.Second)
			if _, err := s.Commit(ctx, model.Batch{write("n", fmt.Sprint(i), model.AnyRevision)}); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if err := <-done; err != nil || steps != 2 {
			t.Fatalf("%d steps in 90 s, %v", steps, err)
		}
	})
}

func TestRunRepeatsAfterConflicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		var left atomic.Int32
		left.Store(3)
		s.Fault(func(model.Batch) error {
			if left.Add(-1) >= 0 {
				return store.ErrConflict
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := (&Controller{Name: "count", Store: s, Plan: upTo("n", 2)}).Run(ctx); err != nil {
			t.Fatal(err)
		}
		if n, _ := read(s.Snapshot(), "n"); n != "2" {
			t.Fatalf("counted to %q", n)
		}
	})
}

// TestManyControllersOfOneRecord: stale snapshots and conflicts lose nothing.
func TestManyControllersOfOneRecord(t *testing.T) {
	s := memory.New()
	ctx, cancel := context.WithCancel(t.Context())
	goal, reached := 200, make(chan struct{})
	stop := s.OnChange(func(now *model.Snapshot, _ []model.Change) {
		if n, _ := read(now, "n"); n == strconv.Itoa(goal) {
			close(reached)
		}
	})
	defer stop()
	var all []*Controller
	for i := range 5 {
		all = append(all, &Controller{Name: fmt.Sprint("c", i), Store: s, Plan: upTo("n", goal)})
	}
	done := make(chan error, 1)
	go func() { done <- RunAll(ctx, all...) }()
	select {
	case <-reached:
	case <-time.After(20 * time.Second):
		t.Error("the goal is not reached")
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n, _ := read(s.Snapshot(), "n"); n != strconv.Itoa(goal) {
		t.Fatalf("counted to %s", n)
	}
}

func TestRunEndsWithTheTerm(t *testing.T) {
	s := memory.New()
	fence := s.Elect("/leader")
	s.Depose("/leader")
	c := &Controller{Name: "deposed", Store: s, Fences: []store.Fence{fence}, Plan: upTo("n", 2)}
	if err := c.Run(t.Context()); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("error %v, want %v", err, store.ErrFenced)
	}
	s.Fault(func(model.Batch) error { return store.ErrUnavailable })
	other := &Controller{Name: "other", Store: s, Plan: upTo("m", 2)}
	if err := RunAll(t.Context(), c, other); err == nil {
		t.Fatal("no error")
	}
}
