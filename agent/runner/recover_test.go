package runner_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/agent/runner"
	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/agent/runtime/fake"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestRestartAdoptsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		h.boot()
		c := container("app")
		c.PortMappings = []*pb.PortMapping{{ContainerPort: proto.Int32(80)}}
		a := task(1, c, container("web"))
		h.assign(a)
		before := h.last(taskID(1))
		calls := len(h.runtime.Calls())
		h.stop()

		h.boot()
		h.assign(a) // the control plane's complete set
		for _, c := range h.runtime.Calls()[calls:] {
			if c.Op != fake.OpList && c.Op != fake.OpGet {
				t.Errorf("the restart does %v", c)
			}
		}
		after := h.last(taskID(1))
		if after.GetVersion() <= before.GetVersion() {
			t.Error("the restarted agent has reported nothing: what was lost with the earlier one stays lost")
		}
		after = proto.CloneOf(after)
		after.Version = before.GetVersion()
		if !proto.Equal(before, after) {
			t.Errorf("the task changed from %v to %v", before, after)
		}
		if err := h.runtime.Exit(runner.ContainerID(taskID(1), "web"), 4); err != nil {
			t.Fatal(err)
		}
		h.pass(0)
		if s := h.last(taskID(1)); s.GetLastStatus() != "STOPPED" || s.GetContainers()[1].GetExitCode() != 4 {
			t.Errorf("the task is %v", s)
		}
		h.empty()
		h.stop()
	})
}

func TestWhatEndedWhileTheAgentWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		h.boot()
		h.assign(task(1, container("app")))
		h.stop()
		if err := h.runtime.Exit(runner.ContainerID(taskID(1), "app"), 6); err != nil {
			t.Fatal(err)
		}
		h.boot()
		h.pass(0)
		if s := h.last(taskID(1)); s.GetLastStatus() != "STOPPED" || s.GetContainers()[0].GetExitCode() != 6 {
			t.Errorf("the task is %v", s)
		}
		h.empty()
		h.stop()
	})
}

func TestRebootStopsTheTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		h.boot()
		h.assign(task(1, container("app")))
		h.stop()
		h.runtime = fake.New(nil)
		h.boot()
		h.pass(0)
		if s := h.last(taskID(1)); s.GetLastStatus() != "STOPPED" || s.GetContainers()[0].GetExitCode() != 137 || s.GetContainers()[0].GetReason() == "" {
			t.Errorf("the task is %v", s)
		}
		if n := h.count(fake.OpCreate); n != 0 {
			t.Errorf("%d containers were made again", n)
		}
		h.stop()
	})
}

func TestRestartGoesOnWithAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, func(runtime.Spec) fake.Script { return fake.Script{After: fake.Forever, Ignore: []int{15}} })
		h.boot()
		a := task(1, container("app"))
		h.assign(a)
		h.assign(stopped(a))
		h.pass(time.Second)
		h.stop()
		h.boot()
		h.pass(30 * time.Second)
		if s := h.last(taskID(1)); s.GetLastStatus() != "STOPPED" || s.GetStopCode() != pb.TaskStopCode_TASK_STOP_CODE_USER_INITIATED {
			t.Errorf("the task is %v", s)
		}
		h.empty()
		h.stop()
	})
}

func TestStoppedTaskIsReportedButNeverRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, func(runtime.Spec) fake.Script { return fake.Script{} })
		h.boot()
		a := task(1, container("app"))
		h.assign(a)
		h.stop()
		h.mu.Lock()
		h.statuses = nil
		h.mu.Unlock()
		h.boot()
		h.assign(a)
		if s := h.last(taskID(1)); s.GetLastStatus() != "STOPPED" {
			t.Errorf("the task is %v", s)
		}
		if n := h.count(fake.OpCreate); n != 1 {
			t.Errorf("the container was made %d times", n)
		}
		if err := h.runner.Unassign(taskID(1)); err != nil {
			t.Fatal(err)
		}
		h.stop()
		h.boot()
		if left := h.runner.Tasks(); len(left) != 0 {
			t.Errorf("after it was unassigned it is still known: %v", left)
		}
		h.stop()
	})
}

func TestUnassignedTaskIsStoppedAndForgotten(t *testing.T) {
	in(t, nil, func(t *testing.T, h *host) {
		h.assign(task(1, container("app")))
		if err := h.runner.Unassign(taskID(1)); err != nil {
			t.Fatal(err)
		}
		h.pass(0)
		h.empty()
		if left := h.runner.Tasks(); len(left) != 0 {
			t.Errorf("still known: %v", left)
		}
	})
}

func TestSweepRemovesWhatNobodyOwns(t *testing.T) {
	in(t, nil, func(t *testing.T, h *host) {
		h.assign(task(1, container("app")))
		stranger := runner.ContainerID(taskID(2), "app")
		if _, err := h.network.Add(t.Context(), stranger, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := h.runtime.Create(t.Context(), runtime.Spec{ID: stranger}); err != nil {
			t.Fatal(err)
		}
		h.runtime.FailNext(fake.OpRemove, errors.New("busy"))
		if err := h.runner.Sweep(t.Context()); err == nil {
			t.Error("a removal that fails is not told")
		}
		if err := h.runner.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		h.pass(0)
		own := runner.ContainerID(taskID(1), "app")
		if all, err := h.runtime.List(t.Context()); err != nil || len(all) != 1 || all[0].ID != own || all[0].Status != runtime.Running {
			t.Errorf("the containers are %v, %v", all, err)
		}
		if all := h.network.Tasks(); len(all) != 1 || all[0] != own {
			t.Errorf("the networks are %v", all)
		}
	})
}

func TestListingMakesUpForLostEvents(t *testing.T) {
	in(t, nil, func(t *testing.T, h *host) {
		h.assign(task(1, container("app")), task(2, container("app")))
		h.runtime.DropEvents(true)
		if err := h.runtime.Exit(runner.ContainerID(taskID(1), "app"), 5); err != nil {
			t.Fatal(err)
		}
		all, err := h.runtime.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.runner.Observe(all)
		h.pass(0)
		if s := h.last(taskID(1)); s.GetLastStatus() != "STOPPED" || s.GetContainers()[0].GetExitCode() != 5 {
			t.Errorf("the task is %v", s)
		}
		if s := h.last(taskID(2)); s.GetLastStatus() != "RUNNING" {
			t.Errorf("the other task is %v", s)
		}
	})
}
