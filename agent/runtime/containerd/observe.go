package containerd

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
)

const (
	eventBuffer   = 256
	resubscribe   = 100 * time.Millisecond // after the first failure, then doubled
	resubscribeTo = 2 * time.Second
	// lostExit is the exit code of a process that is gone without a trace.
	lostExit = 128 + int(syscall.SIGKILL)
)

// List implements runtime.Runtime.
func (r *Runtime) List(ctx context.Context) ([]runtime.Container, error) {
	ctx = r.in(ctx)
	records, processes, err := r.both(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]runtime.Container, 0, len(records))
	for _, record := range records {
		if c, ok := r.observed(ctx, record, processes[record.ID]); ok {
			out = append(out, c)
		}
	}
	return out, nil
}

// both reads records, then tasks: one that is launched in between has a record
// only, and is not answered.
func (r *Runtime) both(ctx context.Context) ([]containers.Container, map[string]*tasktypes.Process, error) {
	records, err := r.containers.List(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("list containers: %w", err)
	}
	listed, err := r.tasks.List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, nil, fmt.Errorf("list tasks: %w", errgrpc.ToNative(err))
	}
	processes := make(map[string]*tasktypes.Process, len(listed.Tasks))
	for _, p := range listed.Tasks {
		processes[p.ID] = p
	}
	return records, processes, nil
}

// Get implements runtime.Runtime.
func (r *Runtime) Get(ctx context.Context, id string) (runtime.Container, error) {
	c, err := r.get(r.in(ctx), id)
	if errdefs.IsNotFound(err) {
		err = runtime.ErrNotFound
	}
	if err != nil {
		return runtime.Container{}, fmt.Errorf("get container %s: %w", id, err)
	}
	return c, nil
}

// get answers errdefs.ErrNotFound for what does not exist or never ended its
// launch.
func (r *Runtime) get(ctx context.Context, id string) (runtime.Container, error) {
	record, err := r.containers.Get(ctx, id)
	if err != nil {
		return runtime.Container{}, err
	}
	var process *tasktypes.Process
	answered, err := r.tasks.Get(ctx, &tasks.GetRequest{ContainerID: id})
	switch err = errgrpc.ToNative(err); {
	case err == nil:
		process = answered.Process
	case errdefs.IsNotFound(err), shimGone(err):
	default:
		return runtime.Container{}, err
	}
	c, ok := r.observed(ctx, record, process)
	if !ok {
		return runtime.Container{}, errdefs.ErrNotFound
	}
	return c, nil
}

// shimGone says whether containerd could not reach the shim: it was killed, and
// containerd has yet to notice.
func shimGone(err error) bool {
	s := err.Error()
	return strings.Contains(s, "ttrpc: closed") || strings.Contains(s, "ttrpc: server closed")
}

// observed combines a record and its process; false means a launch that has not
// ended.
func (r *Runtime) observed(ctx context.Context, record containers.Container, p *tasktypes.Process) (runtime.Container, bool) {
	c := answer(record)
	switch p.GetStatus() {
	case tasktypes.Status_CREATED:
		c.Status, c.Pid = runtime.Created, int(p.Pid)
	case tasktypes.Status_RUNNING, tasktypes.Status_PAUSED, tasktypes.Status_PAUSING:
		c.Status, c.Pid = runtime.Running, int(p.Pid)
		if !started(record) {
			if err := r.markStarted(ctx, record.ID); err != nil {
				r.log.Warn("container runs, and was not marked as started", "container", record.ID, "err", err)
			}
		}
	case tasktypes.Status_STOPPED:
		c.Status, c.ExitCode, c.ExitedAt = runtime.Stopped, int(p.ExitStatus), p.ExitedAt.AsTime()
	default:
		if !started(record) {
			return c, false
		}
		c.Status, c.ExitCode, c.ExitedAt = runtime.Stopped, lostExit, r.lostAt(record.ID)
	}
	return c, true
}

// lostAt answers when a container without a process was first seen so.
func (r *Runtime) lostAt(id string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.lost[id]
	if !ok {
		at = time.Now()
		r.lost[id] = at
	}
	return at
}

// answer is what a record alone tells.
func answer(record containers.Container) runtime.Container {
	c := runtime.Container{ID: record.ID, CreatedAt: record.CreatedAt, Image: record.Image, StopSignal: int(syscall.SIGTERM)}
	if n, err := strconv.Atoi(record.Labels[labelStopSignal]); err == nil {
		c.StopSignal = n
	}
	labels := make(map[string]string, len(record.Labels))
	for k, v := range record.Labels {
		switch k {
		case labelStarted, labelStopSignal:
		case labelEmpty:
			for name := range strings.SplitSeq(v, "\n") {
				labels[name] = ""
			}
		default:
			labels[k] = v
		}
	}
	if len(labels) > 0 {
		c.Labels = labels
	}
	return c
}

// Events implements runtime.Runtime.
func (r *Runtime) Events(ctx context.Context) <-chan runtime.Event {
	ch := make(chan runtime.Event, eventBuffer)
	go func() {
		defer close(ch)
		wait := resubscribe
		for ctx.Err() == nil {
			begin := time.Now()
			err := r.forward(ctx, ch)
			if ctx.Err() != nil {
				return
			}
			if time.Since(begin) > resubscribeTo {
				wait = resubscribe
			}
			r.log.Warn("containerd's events ended, subscribing again", "after", wait, "err", err)
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
			case <-timer.C:
			}
			wait = min(2*wait, resubscribeTo)
		}
	}()
	return ch
}

// forward sends events until the subscription fails or ctx ends.
func (r *Runtime) forward(ctx context.Context, to chan<- runtime.Event) error {
	ctx, cancel := context.WithCancel(r.in(ctx))
	defer cancel()
	ns := strconv.Quote(r.config.Namespace)
	envelopes, errs := r.client.Subscribe(ctx, "namespace=="+ns+`,topic=="/tasks/exit"`, "namespace=="+ns+`,topic=="/tasks/oom"`)
	for {
		select {
		case err := <-errs:
			return err
		case envelope := <-envelopes:
			decoded, err := typeurl.UnmarshalAny(envelope.Event)
			if err != nil {
				return fmt.Errorf("decode event %s: %w", envelope.Topic, err)
			}
			event, ok := eventOf(decoded, envelope.Timestamp)
			if !ok {
				continue
			}
			select {
			case to <- event:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// eventOf translates an event; those of processes beside the first are not ours.
func eventOf(decoded any, at time.Time) (runtime.Event, bool) {
	switch e := decoded.(type) {
	case *apievents.TaskExit:
		return runtime.Event{ID: e.ContainerID, Kind: runtime.Exited, ExitCode: int(e.ExitStatus), At: e.ExitedAt.AsTime()},
			e.ID == e.ContainerID
	case *apievents.TaskOOM:
		return runtime.Event{ID: e.ContainerID, Kind: runtime.OOMKilled, At: at}, true
	}
	return runtime.Event{}, false
}
