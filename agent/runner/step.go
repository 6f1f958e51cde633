package runner

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// The deadlines of steps.
const (
	pullTimeout   = 30 * time.Minute
	stepTimeout   = 2 * time.Minute
	removeTimeout = time.Minute
	stopTimeout   = 30 * time.Second
	// retryAfter is the pause before a removal is tried again; it grows to
	// retryAtMost.
	retryAfter  = 500 * time.Millisecond
	retryAtMost = time.Minute
	// retryRuntime is the pause before a step is done again that failed because
	// the runtime does not answer within pingTimeout.
	retryRuntime = time.Second
	pingTimeout  = 5 * time.Second
)

// begin has a step done; its result comes back through the inbox.
func (t *task) begin(c *container, do Action) {
	c.Busy = true
	step := map[Action]func(*task, *container) func(*task){
		Pull: (*task).pull, Connect: (*task).connect, Create: (*task).create, Start: (*task).start,
		Signal: (*task).signal, Kill: (*task).kill, Remove: (*task).remove,
	}[do]
	if do == Pull && t.status.PullStartedAt == nil {
		t.status.PullStartedAt = timestamppb.New(t.r.cfg.Now())
	}
	t.r.wg.Go(func() {
		done := step(t, c)
		t.inbox.put(func(t *task) {
			c.Busy = false
			done(t)
		})
	})
}

// deadline is a step's context: it ends with the task's start, or only with the
// agent where the step belongs to the task's end.
func deadline(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}

func (t *task) pull(c *container) func(*task) {
	ctx, cancel := deadline(t.starting, pullTimeout)
	defer cancel()
	ref, digest, err := t.r.cfg.Images.Pull(ctx, c.def.GetImage(), func(text string) {
		t.inbox.put(func(*task) { c.out.Reason = text })
	})
	again := t.again(err)
	return func(t *task) {
		if again(c) {
			return
		}
		c.out.Reason = ""
		if err != nil {
			t.fail(c, err)
			return
		}
		t.status.PullStoppedAt = timestamppb.New(t.r.cfg.Now())
		c.image, c.out.ImageDigest, c.Phase = ref, digest, Pulled
	}
}

// connect makes the container's network and generated files.
func (t *task) connect(c *container) func(*task) {
	ctx, cancel := deadline(t.starting, stepTimeout)
	defer cancel()
	f := Facts{Hostname: t.r.cfg.Hostname, LogPath: t.r.cfg.Logs.Path(t.a.GetTaskId(), c.def.GetName())}
	var bindings []*pb.NetworkBinding
	err := func() error {
		switch t.def.GetNetworkMode() {
		case pb.NetworkMode_NETWORK_MODE_HOST:
			bindings = hostBindings(c.def)
			return nil
		case pb.NetworkMode_NETWORK_MODE_NONE:
			a, err := t.r.cfg.Network.Isolate(ctx, c.id)
			f.NetNS = a.NetNS
			return err
		}
		a, err := t.r.cfg.Network.Add(ctx, c.id, portsOf(c.def))
		if err != nil {
			return err
		}
		f.NetNS, f.Address = a.NetNS, a.Address.Addr().String()
		for _, p := range a.Ports {
			bindings = append(bindings, binding(p))
		}
		f.Files = filepath.Join(t.dir(), c.def.GetName())
		return writeFiles(f.Files, hostname(t.a, c.def, f), f.Address)
	}()
	return func(t *task) {
		if err != nil {
			t.fail(c, fmt.Errorf("ContainerNetworkingError: %w", err))
			return
		}
		c.out.NetworkBindings, c.facts, c.Phase = bindings, f, Networked
	}
}

func (t *task) create(c *container) func(*task) {
	release, ok := t.slot()
	if !ok {
		return func(*task) {}
	}
	defer release()
	ctx, cancel := deadline(t.starting, stepTimeout)
	defer cancel()
	made, err := t.r.cfg.Runtime.Create(ctx, SpecOf(t.a, c.def, c.image, c.facts))
	if err == nil {
		// The slot is kept for the start, so that what is begun is finished.
		err = wrap("CannotStartContainerError", t.r.cfg.Runtime.Start(ctx, c.id))
		if err == nil {
			return func(t *task) {
				c.signal = made.StopSignal
				t.running(c)
			}
		}
	} else {
		err = wrap("CannotCreateContainerError", err)
	}
	again := t.again(err)
	return func(t *task) {
		if again(c) {
			return
		}
		// It may exist: Remove sees to it.
		c.Phase = max(c.Phase, Networked)
		t.fail(c, err)
	}
}

// start starts what an earlier agent created.
func (t *task) start(c *container) func(*task) {
	release, ok := t.slot()
	if !ok {
		return func(*task) {}
	}
	defer release()
	ctx, cancel := deadline(t.starting, stepTimeout)
	defer cancel()
	err := t.r.cfg.Runtime.Start(ctx, c.id)
	again := t.again(err)
	return func(t *task) {
		if again(c) {
			return
		}
		if err != nil {
			t.fail(c, wrap("CannotStartContainerError", err))
			return
		}
		t.running(c)
	}
}

// again asks, after a step that failed, whether the runtime answers. If it does
// not, that is no fault of the task's: what again answers has the step done again
// in a while, and says so.
func (t *task) again(err error) func(*container) bool {
	if err == nil || t.starting.Err() != nil {
		return func(*container) bool { return false }
	}
	ctx, cancel := deadline(t.starting, pingTimeout)
	defer cancel()
	_, away := t.r.cfg.Runtime.Version(ctx)
	return func(c *container) bool {
		if away == nil || t.starting.Err() != nil {
			return false
		}
		c.out.Reason = "Waiting for the container runtime: " + away.Error()
		t.pause(c, retryRuntime)
		return true
	}
}

// pause has nothing done for the container for a while.
func (t *task) pause(c *container, d time.Duration) {
	c.Busy = true
	time.AfterFunc(d, func() { t.inbox.put(func(*task) { c.Busy = false }) })
}

func (t *task) running(c *container) {
	if c.Phase < Running {
		c.out.Reason = ""
		c.Phase = Running
		c.out.LastStatus = taskstate.Running.String()
	}
	if t.status.StartedAt == nil && !t.ending && t.allRan() {
		t.status.StartedAt = timestamppb.New(t.r.cfg.Now())
	}
	// Its end may have been told before its start was.
	if e := c.early; e != nil {
		t.exited(c, e.ExitCode, e.At)
	}
}

func wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// slot waits for a place among the host's launches; false if the task ends
// before.
func (t *task) slot() (release func(), ok bool) {
	select {
	case t.r.launch <- struct{}{}:
		return func() { <-t.r.launch }, true
	case <-t.starting.Done():
		return nil, false
	}
}

// signal asks the process to end, and sets the time after which it is killed.
func (t *task) signal(c *container) func(*task) {
	ctx, cancel := deadline(t.r.ctx, stepTimeout)
	defer cancel()
	err := t.r.cfg.Runtime.Kill(ctx, c.id, c.signal, false)
	return func(t *task) {
		c.Signalled = true
		if c.Phase != Running {
			return // it ended meanwhile
		}
		wait := stopTimeout
		if c.def.StopTimeout != nil {
			wait = time.Duration(c.def.GetStopTimeout()) * time.Second
		}
		if err != nil {
			t.r.cfg.Logger.Warn("signal a container", "task", t.a.GetTaskId(), "container", c.id, "err", err)
			wait = 0
		}
		c.timer = time.AfterFunc(wait, func() { t.inbox.put(func(*task) { c.Expired = true }) })
	}
}

func (t *task) kill(c *container) func(*task) {
	ctx, cancel := deadline(t.r.ctx, stepTimeout)
	defer cancel()
	err := t.r.cfg.Runtime.Kill(ctx, c.id, 9, true)
	return func(t *task) {
		c.Killed = true
		if err != nil {
			t.r.cfg.Logger.Warn("kill a container", "task", t.a.GetTaskId(), "container", c.id, "err", err)
		}
		// A process that does not end even so is looked at again.
		c.timer = time.AfterFunc(10*time.Second, func() {
			t.inbox.put(func(*task) {
				if c.Phase == Running {
					c.Killed = false
					c.out.Reason = "CannotStopContainerError: the process does not end"
				}
			})
		})
	}
}

// remove deletes container and network, side by side.
func (t *task) remove(c *container) func(*task) {
	ctx, cancel := deadline(t.r.ctx, removeTimeout)
	defer cancel()
	network := make(chan error, 1)
	go func() {
		if t.def.GetNetworkMode() == pb.NetworkMode_NETWORK_MODE_HOST {
			network <- nil
			return
		}
		network <- t.r.cfg.Network.Delete(ctx, c.id)
	}()
	err := errors.Join(t.r.cfg.Runtime.Remove(ctx, c.id), <-network)
	return func(t *task) {
		if err == nil {
			c.Phase = Removed
			c.out.LastStatus = taskstate.Stopped.String()
			return
		}
		c.failed++
		t.r.cfg.Logger.Warn("remove a container", "task", t.a.GetTaskId(), "container", c.id, "attempt", c.failed, "err", err)
		c.out.Reason = "CannotStopContainerError: " + err.Error()
		t.pause(c, min(retryAtMost, retryAfter<<min(c.failed, 10)))
	}
}
