package runner_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/agent/journal"
	"github.com/plimsoll-project/plimsoll/agent/runner"
	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/agent/runtime/fake"
	networkfake "github.com/plimsoll-project/plimsoll/cni/fake"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// host is a host of fakes: what is on it outlives its agent.
type host struct {
	t       *testing.T
	dir     string
	runtime *fake.Runtime
	network *networkfake.Network
	// pull replaces the images' puller.
	pull     func(ctx context.Context, image string, tell func(string)) (string, string, error)
	launches int

	mu       sync.Mutex
	statuses []*pb.TaskStatusRecord

	runner *runner.Runner
	stop   func()
}

func newHost(t *testing.T, script func(runtime.Spec) fake.Script) *host {
	h := &host{t: t, dir: t.TempDir(), runtime: fake.New(script), network: networkfake.New(), launches: 4}
	t.Cleanup(func() { h.runtime.Close() })
	return h
}

// boot starts the agent's runner, which recovers what there is; stop ends it as
// SIGTERM does.
func (h *host) boot() {
	h.t.Helper()
	j, err := journal.Open(filepath.Join(h.dir, "journal.db"))
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	h.runner = runner.New(ctx, runner.Config{
		Runtime: h.runtime, Network: h.network, Images: h, Logs: h, Journal: j, Report: h.report, Dir: filepath.Join(h.dir, "tasks"),
		Hostname: "host-1", Launches: h.launches, Now: time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	events := h.runtime.Events(ctx)
	if err := h.runner.Recover(ctx); err != nil {
		h.t.Fatal(err)
	}
	r := h.runner
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range events {
			r.Exited(runner.TaskOf(e.ID), e)
		}
	})
	h.stop = func() {
		cancel()
		wg.Wait()
		r.Wait()
		if err := j.Close(); err != nil {
			h.t.Error(err)
		}
	}
}

// in runs a test in virtual time on a host whose agent runs.
func in(t *testing.T, script func(runtime.Spec) fake.Script, test func(t *testing.T, h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, script)
		h.boot()
		test(t, h)
		h.stop()
	})
}

func (h *host) Pull(ctx context.Context, image string, tell func(string)) (ref, digest string, err error) {
	if h.pull != nil {
		return h.pull(ctx, image, tell)
	}
	digest = "sha256:" + strings.Repeat("0", 64)
	return image + "@" + digest, digest, nil
}

func (h *host) Path(task, container string) string {
	return filepath.Join(h.dir, "logs", task, container+".log")
}

func (h *host) Stopped(string) error { return nil }

func (h *host) report(s *pb.TaskStatusRecord) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.statuses = append(h.statuses, s)
}

func (h *host) assign(all ...*pb.Assignment) {
	h.t.Helper()
	if err := h.runner.Assign(all...); err != nil {
		h.t.Fatal(err)
	}
	h.pass(0)
}

// pass lets virtual time go by, and what follows from it happen; the journal
// gathers writes for a moment.
func (h *host) pass(d time.Duration) {
	<-time.After(d + 100*time.Millisecond)
	synctest.Wait()
}

// history is what was reported of a task; it must be in order.
func (h *host) history(task string) []*pb.TaskStatusRecord {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*pb.TaskStatusRecord
	for _, s := range h.statuses {
		if s.GetTask() != task {
			continue
		}
		// An agent that comes back tells again of a task that is over.
		if n := len(out); n > 0 && out[n-1].GetVersion() >= s.GetVersion() && !(s.GetLastStatus() == "STOPPED" && proto.Equal(s, out[n-1])) {
			h.t.Errorf("task %s: version %d follows %d", task, s.GetVersion(), out[n-1].GetVersion())
		}
		out = append(out, s)
	}
	return out
}

// walk is the task's distinct statuses in order.
func (h *host) walk(task string) []string {
	h.t.Helper()
	var out []string
	for _, s := range h.history(task) {
		out = append(out, s.GetLastStatus())
	}
	return slices.Compact(out)
}

// last is the task's newest status.
func (h *host) last(task string) *pb.TaskStatusRecord {
	h.t.Helper()
	all := h.history(task)
	if len(all) == 0 {
		h.t.Fatalf("nothing was reported of task %s", task)
	}
	return all[len(all)-1]
}

// empty fails if anything is left on the host.
func (h *host) empty() {
	h.t.Helper()
	left, err := h.runtime.List(h.t.Context())
	if err != nil || len(left) > 0 {
		h.t.Errorf("containers are left: %v, %v", left, err)
	}
	if left := h.network.Tasks(); len(left) > 0 {
		h.t.Errorf("networks are left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(h.dir, "tasks", "*")); len(left) > 0 {
		h.t.Errorf("files are left: %v", left)
	}
}

// count is how many calls of an operation the runtime has seen.
func (h *host) count(op fake.Op) (n int) {
	for _, c := range h.runtime.Calls() {
		if c.Op == op {
			n++
		}
	}
	return n
}

func taskID(n int) string { return fmt.Sprintf("%032x", n) }

// task is an assignment of a task with the containers.
func task(n int, containers ...*pb.ContainerDefinition) *pb.Assignment {
	id := taskID(n)
	return &pb.Assignment{
		TaskId: id,
		Task: &pb.Task{TaskArn: "arn:aws:ecs:us-east-1:123456789012:task/default/" + id,
			ClusterArn: "arn:aws:ecs:us-east-1:123456789012:cluster/default", DesiredStatus: "RUNNING"},
		TaskDefinition: &pb.TaskDefinition{Family: "app", Revision: 7, ContainerDefinitions: containers},
	}
}

func container(name string) *pb.ContainerDefinition {
	return &pb.ContainerDefinition{Name: name, Image: "example.com/" + name + ":1"}
}

func sidecar(name string) *pb.ContainerDefinition {
	c := container(name)
	c.Essential = proto.Bool(false)
	return c
}

// stopped is the assignment once the task is to stop.
func stopped(a *pb.Assignment) *pb.Assignment {
	a = proto.CloneOf(a)
	a.Task.DesiredStatus = "STOPPED"
	a.StopCode, a.StoppedReason = pb.TaskStopCode_TASK_STOP_CODE_USER_INITIATED, "asked to"
	return a
}
