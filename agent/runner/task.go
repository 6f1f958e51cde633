package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// killed is the exit code of a process that was killed, or is gone.
const killed = 137

const outOfMemory = "OutOfMemoryError: Container killed due to memory usage"

// task is one task. Its fields but inbox are its goroutine's own; containers'
// ids never change.
type task struct {
	r      *Runner
	a      *pb.Assignment
	def    *pb.TaskDefinition
	status *pb.TaskStatusRecord
	told   *pb.TaskStatusRecord // what was reported last; never written to
	// starting ends when the task is to end, so that pulls and starts give up.
	starting context.Context
	giveUp   context.CancelFunc

	containers []*container
	ending     bool
	disowned   bool
	inbox      *inbox
}

// container is one container of a task.
type container struct {
	ContainerState
	id     string
	def    *pb.ContainerDefinition
	out    *pb.Container
	image  string // name@digest
	signal int
	oom    bool
	// early is an exit that was told before the start was.
	early  *runtime.Event
	facts  Facts
	timer  *time.Timer
	failed int // removals that failed in a row
}

func newTask(r *Runner, a *pb.Assignment) *task {
	t := &task{r: r, a: a, def: a.GetTaskDefinition(), inbox: newInbox(),
		status: &pb.TaskStatusRecord{Task: a.GetTaskId(), LastStatus: taskstate.Pending.String()}}
	t.starting, t.giveUp = context.WithCancel(r.ctx)
	for _, c := range t.def.GetContainerDefinitions() {
		id := ContainerID(a.GetTaskId(), c.GetName())
		t.containers = append(t.containers, &container{id: id, def: c, signal: 15, out: &pb.Container{
			Name: c.GetName(), TaskArn: a.GetTask().GetTaskArn(), Image: c.GetImage(), LastStatus: taskstate.Pending.String(),
			ContainerArn: containerARN(a, id), Cpu: fmt.Sprint(c.GetCpu()), RuntimeId: id,
		}})
	}
	return t
}

// run is the task's goroutine: messages change the state, then every step that
// can be taken is.
func (t *task) run() {
	defer t.giveUp()
	for {
		// What is known is noted before it is acted on: a container's exit code is
		// on disk when the container goes.
		t.report()
		for _, s := range Next(t.state()) {
			if s.Do == Finish {
				t.finish()
				return
			}
			t.begin(t.containers[s.Container], s.Do)
		}
		t.report()
		for _, f := range t.inbox.take(t.r.ctx) {
			f(t)
		}
		if t.r.ctx.Err() != nil {
			return
		}
	}
}

func (t *task) state() State {
	s := State{Ending: t.ending}
	for _, c := range t.containers {
		s.Containers = append(s.Containers, c.ContainerState)
	}
	return s
}

// want changes what is wanted of the task.
func (t *task) want(a *pb.Assignment) {
	t.inbox.put(func(t *task) {
		if taskstate.Parse(a.GetTask().GetDesiredStatus()) == taskstate.Stopped {
			t.end(a.GetStopCode(), a.GetStoppedReason())
		}
	})
}

// disown ends the task because it is no longer this host's.
func (t *task) disown() {
	t.inbox.put(func(t *task) {
		t.disowned = true
		t.end(pb.TaskStopCode_TASK_STOP_CODE_SERVICE_SCHEDULER_INITIATED, "The task is no longer assigned to this container instance")
	})
}

func (t *task) event(e runtime.Event) {
	t.inbox.put(func(t *task) {
		for _, c := range t.containers {
			if c.id != e.ID {
				continue
			}
			switch {
			case e.Kind == runtime.OOMKilled:
				c.oom = true
				// It may be told after the exit that it caused.
				if c.out.ExitCode != nil && c.out.GetExitCode() == killed {
					c.out.Reason = outOfMemory
				}
			case c.Phase < Running && c.Busy:
				c.early = &e
			default:
				t.exited(c, e.ExitCode, e.At)
			}
		}
	})
}

// listing makes up for a lost exit: a container that was running when the
// listing began and is not in it, or has stopped there.
func (t *task) listing(byID map[string]runtime.Container) {
	t.inbox.put(func(t *task) {
		for _, c := range t.containers {
			if c.Phase != Running || c.Busy {
				continue
			}
			if seen, ok := byID[c.id]; !ok {
				if _, err := t.r.cfg.Runtime.Get(t.r.ctx, c.id); errors.Is(err, runtime.ErrNotFound) {
					t.exited(c, killed, t.r.cfg.Now())
				}
			} else if seen.Status == runtime.Stopped {
				t.exited(c, seen.ExitCode, seen.ExitedAt)
			}
		}
	})
}

// end begins the task's end; the first reason counts.
func (t *task) end(code pb.TaskStopCode, reason string) {
	if t.ending {
		return
	}
	t.ending = true
	t.giveUp()
	t.status.StopCode, t.status.StoppedReason = code, reason
	t.status.StoppingAt = timestamppb.New(t.r.cfg.Now())
	t.r.cfg.Logger.Info("task ends", "task", t.a.GetTaskId(), "reason", reason)
}

// exited notes the end of a container's process.
func (t *task) exited(c *container, code int, at time.Time) {
	if c.Phase >= Stopped || c.Phase < Created {
		return
	}
	c.Phase = Stopped
	if c.timer != nil {
		c.timer.Stop()
	}
	c.out.LastStatus = taskstate.Stopped.String()
	c.out.ExitCode = proto.Int32(int32(code))
	if t.status.ExecutionStoppedAt == nil {
		t.status.ExecutionStoppedAt = timestamppb.New(at)
	}
	if c.oom {
		c.out.Reason = outOfMemory
	}
	if essential(c.def) || t.allExited() {
		t.end(pb.TaskStopCode_TASK_STOP_CODE_ESSENTIAL_CONTAINER_EXITED, "Essential container in task exited")
	}
}

func (t *task) allExited() bool {
	for _, c := range t.containers {
		if c.Phase < Stopped {
			return false
		}
	}
	return true
}

// allRan says whether every container has been started.
func (t *task) allRan() bool {
	for _, c := range t.containers {
		if c.Phase != Running && c.Phase != Stopped {
			return false
		}
	}
	return true
}

func essential(c *pb.ContainerDefinition) bool { return c.Essential == nil || c.GetEssential() }

// fail ends the task because a container cannot be started.
func (t *task) fail(c *container, err error) {
	if t.starting.Err() != nil {
		return // it is ending anyway
	}
	c.out.Reason = err.Error()
	t.end(pb.TaskStopCode_TASK_STOP_CODE_TASK_FAILED_TO_START, err.Error())
}

// finish is the end: nothing of the task is left.
func (t *task) finish() {
	if err := os.RemoveAll(t.dir()); err != nil {
		t.r.cfg.Logger.Warn("remove a task's files", "task", t.a.GetTaskId(), "err", err)
	}
	if err := t.r.cfg.Logs.Stopped(t.a.GetTaskId()); err != nil {
		t.r.cfg.Logger.Warn("end a task's logs", "task", t.a.GetTaskId(), "err", err)
	}
	t.status.StoppedAt = timestamppb.New(t.r.cfg.Now())
	t.publish(taskstate.Stopped)
	t.r.ended(t.a.GetTaskId(), t.disowned)
	// What came after the last look is handed to whoever takes the task's place.
	for _, f := range t.inbox.close() {
		f(t)
	}
	if t.disowned {
		t.r.ended(t.a.GetTaskId(), true)
	}
}

func (t *task) dir() string { return filepath.Join(t.r.cfg.Dir, t.a.GetTaskId()) }

// containerARN is arn:...:container/CLUSTER/TASK/UUID, the UUID made from the
// container's id.
func containerARN(a *pb.Assignment, id string) string {
	arn := a.GetTask().GetTaskArn()
	return containerPrefix(arn) + "/" + uuidOf(id)
}
