package runner_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/agent/runner"
	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/agent/runtime/fake"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestTaskRunsToItsExitCode(t *testing.T) {
	in(t, func(runtime.Spec) fake.Script { return fake.Script{ExitCode: 3, After: time.Minute} }, func(t *testing.T, h *host) {
		c := container("app")
		c.PortMappings = []*pb.PortMapping{{ContainerPort: proto.Int32(80)}, {ContainerPort: proto.Int32(53), HostPort: proto.Int32(5353), Protocol: pb.TransportProtocol_TRANSPORT_PROTOCOL_UDP}}
		h.assign(task(1, c))
		s := h.last(taskID(1))
		if s.GetLastStatus() != "RUNNING" || s.GetStartedAt() == nil || s.GetPullStoppedAt() == nil {
			t.Errorf("the task is %v", s)
		}
		out := s.GetContainers()[0]
		if b := out.GetNetworkBindings(); len(b) != 2 || b[0].GetHostPort() < 32768 || b[0].GetContainerPort() != 80 || b[1].GetHostPort() != 5353 ||
			b[1].GetProtocol() != pb.TransportProtocol_TRANSPORT_PROTOCOL_UDP || b[0].GetBindIp() != "0.0.0.0" {
			t.Errorf("the network bindings are %v", b)
		}
		if !strings.HasPrefix(out.GetContainerArn(), "arn:aws:ecs:us-east-1:123456789012:container/default/"+taskID(1)+"/") || out.GetImageDigest() == "" {
			t.Errorf("the container is %v", out)
		}
		h.pass(time.Minute)
		if diff := cmp.Diff([]string{"PENDING", "RUNNING", "STOPPING", "STOPPED"}, h.walk(taskID(1))); diff != "" {
			t.Error(diff)
		}
		s = h.last(taskID(1))
		if s.GetStopCode() != pb.TaskStopCode_TASK_STOP_CODE_ESSENTIAL_CONTAINER_EXITED || s.GetStoppedReason() != "Essential container in task exited" ||
			s.GetContainers()[0].GetExitCode() != 3 || s.GetStoppedAt() == nil || s.GetExecutionStoppedAt() == nil {
			t.Errorf("the task is %v", s)
		}
		h.empty()
	})
}

func TestTaskThatExitsAtOnceHasRun(t *testing.T) {
	in(t, func(runtime.Spec) fake.Script { return fake.Script{ExitCode: 1} }, func(t *testing.T, h *host) {
		h.assign(task(1, container("app")))
		if s := h.last(taskID(1)); s.GetLastStatus() != "STOPPED" || s.GetStartedAt() == nil || s.GetContainers()[0].GetExitCode() != 1 {
			t.Errorf("the task is %v", s)
		}
		h.empty()
	})
}

func TestEssentialExitStopsTheOthers(t *testing.T) {
	in(t, func(s runtime.Spec) fake.Script {
		if strings.HasSuffix(s.ID, "-app") {
			return fake.Script{ExitCode: 1, After: time.Second}
		}
		return fake.Script{After: fake.Forever, SignalExit: map[int]int{15: 0}}
	}, func(t *testing.T, h *host) {
		h.assign(task(1, container("app"), container("web"), sidecar("log")))
		h.pass(time.Second)
		s := h.last(taskID(1))
		var codes []int32
		for _, c := range s.GetContainers() {
			codes = append(codes, c.GetExitCode())
		}
		if s.GetLastStatus() != "STOPPED" || !slices.Equal(codes, []int32{1, 0, 0}) {
			t.Errorf("the task is %v with exit codes %v", s.GetLastStatus(), codes)
		}
		h.empty()
	})
}

func TestSidecarMayExit(t *testing.T) {
	in(t, func(s runtime.Spec) fake.Script {
		if strings.HasSuffix(s.ID, "-init") {
			return fake.Script{ExitCode: 9}
		}
		return fake.Script{After: fake.Forever}
	}, func(t *testing.T, h *host) {
		h.assign(task(1, container("app"), sidecar("init")))
		s := h.last(taskID(1))
		if s.GetLastStatus() != "RUNNING" || s.GetContainers()[1].GetLastStatus() != "STOPPED" || s.GetContainers()[1].GetExitCode() != 9 {
			t.Errorf("the task is %v", s)
		}
	})
}

func TestStop(t *testing.T) {
	for _, c := range []struct {
		name   string
		script fake.Script
		wait   *int32
		after  time.Duration
		code   int32
		signal int
	}{
		{"the process ends by itself", fake.Script{After: fake.Forever, SignalExit: map[int]int{15: 0}}, nil, 0, 0, 15},
		{"the image's stop signal is used", fake.Script{After: fake.Forever, StopSignal: int(syscall.SIGQUIT)}, nil, 0, 131, 3},
		{"a deaf process is killed after the default", fake.Script{After: fake.Forever, Ignore: []int{15}}, nil, 30 * time.Second, 137, 15},
		{"or after its stop timeout", fake.Script{After: fake.Forever, Ignore: []int{15}}, proto.Int32(5), 5 * time.Second, 137, 15},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(runtime.Spec) fake.Script { return c.script }, func(t *testing.T, h *host) {
				def := container("app")
				def.StopTimeout = c.wait
				a := task(1, def)
				h.assign(a)
				began := time.Now()
				h.assign(stopped(a))
				h.pass(c.after)
				s := h.last(taskID(1))
				if s.GetLastStatus() != "STOPPED" || s.GetContainers()[0].GetExitCode() != c.code || s.GetStopCode() != pb.TaskStopCode_TASK_STOP_CODE_USER_INITIATED || s.GetStoppedReason() != "asked to" {
					t.Errorf("the task is %v", s)
				}
				if took := s.GetStoppedAt().AsTime().Sub(began); took < c.after || took > c.after+50*time.Millisecond {
					t.Errorf("the stop took %s, want %s", took, c.after)
				}
				i := slices.IndexFunc(h.runtime.Calls(), func(c fake.Call) bool { return c.Op == fake.OpKill })
				if got := h.runtime.Calls()[i].Signal; got != c.signal {
					t.Errorf("the first signal is %d, want %d", got, c.signal)
				}
				h.empty()
			})
		})
	}
}

func TestStopWhilePulling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		h.pull = func(ctx context.Context, _ string, _ func(string)) (string, string, error) {
			<-ctx.Done()
			return "", "", ctx.Err()
		}
		h.boot()
		defer func() { h.stop() }()
		a := task(1, container("app"))
		h.assign(a)
		if s := h.last(taskID(1)); s.GetLastStatus() != "PENDING" || s.GetPullStartedAt() == nil {
			t.Errorf("the task is %v", s)
		}
		h.assign(stopped(a))
		if s := h.last(taskID(1)); s.GetLastStatus() != "STOPPED" || s.GetStopCode() != pb.TaskStopCode_TASK_STOP_CODE_USER_INITIATED || s.GetStartedAt() != nil {
			t.Errorf("the task is %v", s)
		}
		h.empty()
	})
}

func TestPullTellsHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, nil)
		go1, go2 := make(chan struct{}), make(chan struct{})
		h.pull = func(_ context.Context, image string, tell func(string)) (string, string, error) {
			<-go1
			tell("Pulling image: 1MiB of 2MiB")
			<-go2
			return image + "@sha256:1", "sha256:1", nil
		}
		h.boot()
		defer func() { h.stop() }()
		h.assign(task(1, container("app")))
		if s := h.last(taskID(1)); s.GetContainers()[0].GetReason() != "" {
			t.Errorf("before the first word: %v", s)
		}
		close(go1)
		synctest.Wait()
		if s := h.last(taskID(1)); s.GetLastStatus() != "PENDING" || s.GetContainers()[0].GetReason() != "Pulling image: 1MiB of 2MiB" {
			t.Errorf("while the image is pulled: %v", s)
		}
		close(go2)
		synctest.Wait()
		if s := h.last(taskID(1)); s.GetLastStatus() != "RUNNING" || s.GetContainers()[0].GetReason() != "" {
			t.Errorf("after the pull: %v", s)
		}
	})
}

func TestRuntimeThatIsAwayIsWaitedFor(t *testing.T) {
	down := errors.New("connection refused")
	waits := func(t *testing.T, h *host, id string) {
		t.Helper()
		s := h.last(id)
		if s.GetLastStatus() != "PENDING" || s.GetContainers()[0].GetReason() != "Waiting for the container runtime: connection refused" {
			t.Errorf("while the runtime is away: %v", s)
		}
	}
	in(t, nil, func(t *testing.T, h *host) {
		h.runtime.SetAway(down)
		h.assign(task(1, container("app")))
		h.assign(task(2, container("app")))
		time.Sleep(time.Minute)
		waits(t, h, taskID(1))
		waits(t, h, taskID(2))
		// One that is to end meanwhile does not start when the runtime is back.
		h.assign(stopped(task(2, container("app"))))
		h.runtime.SetAway(nil)
		time.Sleep(2 * time.Minute)
		if s := h.last(taskID(1)); s.GetLastStatus() != "RUNNING" || s.GetContainers()[0].GetReason() != "" {
			t.Errorf("after the runtime came back: %v", s)
		}
		if s := h.last(taskID(2)); s.GetLastStatus() != "STOPPED" || s.GetStartedAt() != nil {
			t.Errorf("the task that was stopped: %v", s)
		}
	})
}

func TestFailureToStart(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name, prefix string
		prepare      func(*host)
	}{
		{"pull", "CannotPullContainerError: ", func(h *host) {
			h.pull = func(context.Context, string, func(string)) (string, string, error) {
				return "", "", errors.New("CannotPullContainerError: broken")
			}
		}},
		{"network", "ContainerNetworkingError: ", func(h *host) { h.network.FailNext(broken) }},
		{"create", "CannotCreateContainerError: ", func(h *host) { h.runtime.FailNext(fake.OpCreate, broken) }},
		{"start", "CannotStartContainerError: ", func(h *host) { h.runtime.FailNext(fake.OpStart, broken) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, nil, func(t *testing.T, h *host) {
				c.prepare(h)
				h.assign(task(1, container("app")))
				s := h.last(taskID(1))
				if s.GetLastStatus() != "STOPPED" || s.GetStopCode() != pb.TaskStopCode_TASK_STOP_CODE_TASK_FAILED_TO_START ||
					!strings.HasPrefix(s.GetStoppedReason(), c.prefix) || !strings.Contains(s.GetStoppedReason(), "broken") ||
					!strings.HasPrefix(s.GetContainers()[0].GetReason(), c.prefix) {
					t.Errorf("the task is %v", s)
				}
				h.empty()
			})
		})
	}
}

func TestPortInUseFailsTheTask(t *testing.T) {
	in(t, nil, func(t *testing.T, h *host) {
		c := container("app")
		c.PortMappings = []*pb.PortMapping{{ContainerPort: proto.Int32(80), HostPort: proto.Int32(8080)}}
		h.assign(task(1, c))
		h.assign(task(2, c))
		if s := h.last(taskID(2)); s.GetLastStatus() != "STOPPED" || !strings.Contains(s.GetStoppedReason(), "8080") {
			t.Errorf("the second task is %v", s)
		}
		if s := h.last(taskID(1)); s.GetLastStatus() != "RUNNING" {
			t.Errorf("the first task is %v", s)
		}
	})
}

func TestOutOfMemory(t *testing.T) {
	in(t, nil, func(t *testing.T, h *host) {
		h.assign(task(1, container("app")))
		if err := h.runtime.OOM(runner.ContainerID(taskID(1), "app")); err != nil {
			t.Fatal(err)
		}
		h.pass(0)
		s := h.last(taskID(1))
		if c := s.GetContainers()[0]; s.GetLastStatus() != "STOPPED" || c.GetExitCode() != 137 || c.GetReason() != "OutOfMemoryError: Container killed due to memory usage" {
			t.Errorf("the task is %v", s)
		}
	})
}

func TestStopsDoNotWaitForLaunches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, func(s runtime.Spec) fake.Script {
			if strings.HasSuffix(s.ID, "-slow") {
				return fake.Script{CreateDelay: time.Hour, After: fake.Forever}
			}
			return fake.Script{After: fake.Forever}
		})
		h.launches = 1
		h.boot()
		a := task(1, container("app"))
		h.assign(a)
		h.assign(task(2, container("slow")))
		h.assign(task(3, container("app")))
		h.assign(stopped(a))
		if got := h.last(taskID(1)).GetLastStatus(); got != "STOPPED" {
			t.Errorf("the stopped task is %s", got)
		}
		if got := h.last(taskID(3)).GetLastStatus(); got != "PENDING" {
			t.Errorf("the task behind the slow one is %s: launches are not bounded", got)
		}
		h.stop()
	})
}

func TestRemovalIsTriedAgain(t *testing.T) {
	in(t, nil, func(t *testing.T, h *host) {
		a := task(1, container("app"))
		h.assign(a)
		h.runtime.FailNext(fake.OpRemove, errors.New("busy"))
		h.runtime.FailNext(fake.OpRemove, errors.New("busy"))
		h.assign(stopped(a))
		if got := h.last(taskID(1)).GetLastStatus(); got != "STOPPING" {
			t.Errorf("the task is %s while its container is there", got)
		}
		h.pass(10 * time.Second)
		if got := h.last(taskID(1)).GetLastStatus(); got != "STOPPED" {
			t.Errorf("the task is %s", got)
		}
		h.empty()
	})
}
