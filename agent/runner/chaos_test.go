package runner_test

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plimsoll-project/plimsoll/agent/runner"
	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/agent/runtime/fake"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

func TestStopWhileCreating(t *testing.T) {
	in(t, func(runtime.Spec) fake.Script { return fake.Script{CreateDelay: time.Hour} }, func(t *testing.T, h *host) {
		a := task(1, container("app"))
		h.assign(a)
		h.assign(stopped(a))
		if got := h.last(taskID(1)).GetLastStatus(); got != "STOPPED" {
			t.Errorf("the task is %s", got)
		}
		h.empty()
	})
}

// TestWhateverHappensTasksEnd: with faults of the runtime and of the network,
// lost events, and agents that end and start at any time, tasks only move
// forward, no container is made twice once its task ran, and when all are to
// stop and the faults end, nothing is left.
func TestWhateverHappensTasksEnd(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func chaos(t *testing.T, r *rand.Rand) {
	broken := errors.New("broken")
	script := r.Uint64()
	h := newHost(t, func(spec runtime.Spec) fake.Script {
		// A container's life does not depend on who is first.
		id := fnv.New64a()
		id.Write([]byte(spec.ID))
		r := rand.New(rand.NewPCG(script, id.Sum64()))
		s := fake.Script{After: fake.Forever, ExitCode: r.IntN(3), CreateDelay: time.Duration(r.IntN(3)) * time.Second, StartDelay: time.Duration(r.IntN(2)) * time.Second}
		switch r.IntN(4) {
		case 0:
			s.After = time.Duration(r.IntN(20)) * time.Second
		case 1:
			s.Ignore = []int{15}
		}
		return s
	})
	h.launches = 1 + r.IntN(3)
	h.boot()
	var tasks []*pb.Assignment
	for n := range 30 {
		switch r.IntN(9) {
		case 0, 1, 2:
			a := task(n, container("app"), sidecar("log"))
			tasks = append(tasks, a)
			h.assign(a)
		case 3:
			if len(tasks) > 0 {
				h.assign(stopped(tasks[r.IntN(len(tasks))]))
			}
		case 4:
			h.runtime.FailNext([]fake.Op{fake.OpCreate, fake.OpStart, fake.OpKill, fake.OpRemove}[r.IntN(4)], broken)
		case 5:
			h.network.FailNext(broken)
		case 6:
			h.stop()
			h.boot()
		case 7:
			h.runtime.DropEvents(r.IntN(2) == 0)
		case 8:
			if len(tasks) > 0 {
				_ = h.runtime.Exit(runner.ContainerID(tasks[r.IntN(len(tasks))].GetTaskId(), "app"), 1) // it may not run
			}
		}
		h.pass(time.Duration(r.IntN(3000)) * time.Millisecond)
	}
	h.runtime.DropEvents(false)
	for _, a := range tasks {
		h.assign(stopped(a))
	}
	for range 12 {
		h.pass(10 * time.Second)
		all, err := h.runtime.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.runner.Observe(all)
	}
	h.pass(0)
	for _, a := range tasks {
		from := taskstate.None
		for _, s := range h.history(a.GetTaskId()) {
			to := taskstate.Parse(s.GetLastStatus())
			if to < from {
				t.Errorf("task %s goes from %s to %s", a.GetTaskId(), from, to)
			}
			from = to
		}
		if from != taskstate.Stopped {
			t.Errorf("task %s is left %s: %v", a.GetTaskId(), from, h.last(a.GetTaskId()))
		}
	}
	h.empty()
	h.stop()
}
