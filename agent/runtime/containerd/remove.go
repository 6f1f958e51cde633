package containerd

import (
	"context"
	"fmt"
	"syscall"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
)

// Kill implements runtime.Runtime.
func (r *Runtime) Kill(ctx context.Context, id string, signal int, all bool) error {
	ctx = r.in(ctx)
	err := r.kill(ctx, id, signal, all)
	if err == nil {
		return nil
	}
	have, getErr := r.get(ctx, id)
	switch {
	case errdefs.IsNotFound(getErr):
		return fmt.Errorf("kill container %s: %w", id, runtime.ErrNotFound)
	case getErr == nil && have.Status == runtime.Stopped:
		return nil
	}
	return fmt.Errorf("kill container %s with signal %d: %w", id, signal, err)
}

func (r *Runtime) kill(ctx context.Context, id string, signal int, all bool) error {
	_, err := r.tasks.Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(signal), All: all})
	return errgrpc.ToNative(err)
}

// Remove implements runtime.Runtime.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	ctx = r.in(ctx)
	unlock, err := r.locks.lock(ctx, id)
	if err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	defer unlock()
	if err := r.remove(ctx, id); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// remove works from the process outward: what is left when it is interrupted
// is found again by the record, which goes last.
func (r *Runtime) remove(ctx context.Context, id string) error {
	gone, err := r.removeTask(ctx, id)
	if err != nil {
		return err
	}
	if gone {
		record, err := r.containers.Get(ctx, id)
		if errdefs.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		if err := killLeftovers(ctx, cgroupOf(record)); err != nil {
			return err
		}
	}
	if err := r.snapshots.Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove root filesystem: %w", err)
	}
	if err := r.containers.Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete record: %w", err)
	}
	r.mu.Lock()
	delete(r.lost, id)
	r.mu.Unlock()
	return nil
}

// removeTask kills the process and deletes its task; gone says that there was
// no task, so that nobody has looked after its processes.
func (r *Runtime) removeTask(ctx context.Context, id string) (gone bool, err error) {
	state, err := r.tasks.Get(ctx, &tasks.GetRequest{ContainerID: id})
	switch err = errgrpc.ToNative(err); {
	case errdefs.IsNotFound(err):
		return true, nil
	case err != nil && ctx.Err() != nil:
		return false, fmt.Errorf("ask for task: %w", err)
	case err == nil && state.Process.Status == tasktypes.Status_STOPPED:
		return r.deleteTask(ctx, id)
	}
	// To delete what was never started without killing it takes the shim two
	// seconds.
	if err := r.kill(ctx, id, int(syscall.SIGKILL), true); err != nil && !errdefs.IsNotFound(err) {
		r.log.Warn("kill before removal failed", "container", id, "err", err)
	}
	bounded, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	if _, err := r.tasks.Wait(bounded, &tasks.WaitRequest{ContainerID: id}); err != nil && !errdefs.IsNotFound(errgrpc.ToNative(err)) {
		r.log.Warn("wait before removal failed", "container", id, "err", err)
	}
	return r.deleteTask(ctx, id)
}

func (r *Runtime) deleteTask(ctx context.Context, id string) (gone bool, err error) {
	_, err = r.tasks.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return false, fmt.Errorf("delete task: %w", err)
	}
	return err != nil, nil
}

// sweep removes what launches that never ended have left.
func (r *Runtime) sweep(ctx context.Context) error {
	ctx = r.in(ctx)
	records, processes, err := r.both(ctx)
	if err != nil {
		return err
	}
	for _, record := range records {
		if processes[record.ID] == nil && !started(record) {
			r.log.Info("removing a launch that never ended", "container", record.ID)
			if err := r.remove(ctx, record.ID); err != nil {
				return fmt.Errorf("remove unfinished container %s: %w", record.ID, err)
			}
		}
	}
	return nil
}

func started(c containers.Container) bool {
	_, ok := c.Labels[labelStarted]
	return ok
}
