package fake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
)

const (
	running     = runtime.Running
	eventBuffer = 1024
)

var errNotFound = runtime.ErrNotFound

// Runtime is the fake. Its zero value is not usable: see New.
type Runtime struct {
	script func(runtime.Spec) Script

	mu         sync.Mutex
	containers map[string]*container
	nextPid    int
	away       error
	fail       map[Op][]error
	calls      []Call
	listeners  map[chan runtime.Event]struct{}
	drop       bool
}

var _ runtime.Runtime = (*Runtime)(nil)

type container struct {
	runtime.Container
	spec   runtime.Spec
	script Script
	timer  *time.Timer
}

// New answers a runtime without containers. script is asked for the life of
// each container that is made; nil gives processes that run until a signal.
func New(script func(runtime.Spec) Script) *Runtime {
	if script == nil {
		script = func(runtime.Spec) Script { return Script{After: Forever} }
	}
	return &Runtime{
		script: script, nextPid: 1000,
		containers: map[string]*container{},
		fail:       map[Op][]error{},
		listeners:  map[chan runtime.Event]struct{}{},
	}
}

// Close stops the timers of processes that still run.
func (r *Runtime) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		if c.timer != nil {
			c.timer.Stop()
		}
	}
	return nil
}

// Create implements runtime.Runtime.
func (r *Runtime) Create(ctx context.Context, spec runtime.Spec) (runtime.Container, error) {
	if err := r.called(ctx, Call{Op: OpCreate, ID: spec.ID}); err != nil {
		return runtime.Container{}, err
	}
	script := r.script(spec)
	if err := pass(ctx, script.CreateDelay); err != nil {
		return runtime.Container{}, fmt.Errorf("create container %s: %w", spec.ID, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[spec.ID]; c != nil {
		if c.Status == runtime.Created {
			return c.answer(), nil
		}
		return runtime.Container{}, fmt.Errorf("create container %s: exists already and is %s", spec.ID, c.Status)
	}
	if script.CreateErr != nil {
		return runtime.Container{}, fmt.Errorf("create container %s: %w", spec.ID, script.CreateErr)
	}
	r.nextPid++
	c := &container{spec: spec, script: script, Container: runtime.Container{
		ID: spec.ID, Labels: maps.Clone(spec.Labels), Status: runtime.Created, Pid: r.nextPid, CreatedAt: time.Now(),
		StopSignal: cmp.Or(script.StopSignal, int(syscall.SIGTERM)), Image: spec.Image,
	}}
	r.containers[spec.ID] = c
	return c.answer(), nil
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, id string) error {
	if err := r.called(ctx, Call{Op: OpStart, ID: id}); err != nil {
		return err
	}
	r.mu.Lock()
	c := r.containers[id]
	r.mu.Unlock()
	if c == nil {
		return fmt.Errorf("start container %s: %w", id, runtime.ErrNotFound)
	}
	if err := pass(ctx, c.script.StartDelay); err != nil {
		return fmt.Errorf("start container %s: %w", id, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.containers[id] != c:
		return fmt.Errorf("start container %s: %w", id, runtime.ErrNotFound)
	case c.Status == running:
		return nil
	case c.Status == runtime.Stopped:
		return fmt.Errorf("start container %s: it has exited", id)
	case c.script.StartErr != nil:
		return fmt.Errorf("start container %s: %w", id, c.script.StartErr)
	}
	if err := c.writeOutput(); err != nil {
		return fmt.Errorf("start container %s: %w", id, err)
	}
	c.Status = running
	switch {
	case c.script.After == 0:
		r.exit(c, c.script.ExitCode)
	case c.script.After > 0:
		c.timer = time.AfterFunc(c.script.After, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if c.Status == running {
				r.exit(c, c.script.ExitCode)
			}
		})
	}
	return nil
}

// Kill implements runtime.Runtime.
func (r *Runtime) Kill(ctx context.Context, id string, signal int, all bool) error {
	if err := r.called(ctx, Call{Op: OpKill, ID: id, Signal: signal}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return fmt.Errorf("kill container %s: %w", id, runtime.ErrNotFound)
	}
	if c.Status == runtime.Stopped || signal != int(syscall.SIGKILL) && slices.Contains(c.script.Ignore, signal) {
		return nil
	}
	code, ok := c.script.SignalExit[signal]
	if !ok {
		code = 128 + signal
	}
	r.exit(c, code)
	return nil
}

// Remove implements runtime.Runtime.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	if err := r.called(ctx, Call{Op: OpRemove, ID: id}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		if c.Status == running {
			r.exit(c, 137)
		}
		delete(r.containers, id)
	}
	return nil
}

// List implements runtime.Runtime.
func (r *Runtime) List(ctx context.Context) ([]runtime.Container, error) {
	if err := r.called(ctx, Call{Op: OpList}); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]runtime.Container, 0, len(r.containers))
	for _, id := range slices.Sorted(maps.Keys(r.containers)) {
		out = append(out, r.containers[id].answer())
	}
	return out, nil
}

// Get implements runtime.Runtime.
func (r *Runtime) Get(ctx context.Context, id string) (runtime.Container, error) {
	if err := r.called(ctx, Call{Op: OpGet, ID: id}); err != nil {
		return runtime.Container{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return runtime.Container{}, fmt.Errorf("get container %s: %w", id, runtime.ErrNotFound)
	}
	return c.answer(), nil
}

// Spec answers what a container was made of.
func (r *Runtime) Spec(id string) (runtime.Spec, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return runtime.Spec{}, false
	}
	return c.spec, true
}

// Events implements runtime.Runtime. A listener that is 1024 events behind
// loses the next ones.
func (r *Runtime) Events(ctx context.Context) <-chan runtime.Event {
	ch := make(chan runtime.Event, eventBuffer)
	r.mu.Lock()
	r.listeners[ch] = struct{}{}
	r.mu.Unlock()
	context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.listeners, ch)
		close(ch)
	})
	return ch
}

// Version implements runtime.Runtime.
func (r *Runtime) Version(context.Context) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return "fake", r.away
}

// SetAway has every call fail with err, as when the runtime's process is down,
// until it is called with nil. Containers run on.
func (r *Runtime) SetAway(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = err
}

func (r *Runtime) called(ctx context.Context, call Call) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
	if r.away != nil {
		return fmt.Errorf("%s container %s: %w", call.Op, call.ID, r.away)
	}
	if q := r.fail[call.Op]; len(q) > 0 {
		r.fail[call.Op] = q[1:]
		return fmt.Errorf("%s container %s: %w", call.Op, call.ID, q[0])
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s container %s: %w", call.Op, call.ID, err)
	}
	return nil
}

func (r *Runtime) exit(c *container, code int) {
	r.end(c, code)
	r.send(runtime.Event{ID: c.ID, Kind: runtime.Exited, ExitCode: code, At: c.ExitedAt})
}

func (r *Runtime) end(c *container, code int) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.Status, c.Pid, c.ExitCode, c.ExitedAt = runtime.Stopped, 0, code, time.Now()
}

func (r *Runtime) send(e runtime.Event) {
	if r.drop {
		return
	}
	for ch := range r.listeners {
		select {
		case ch <- e:
		default:
		}
	}
}

func oomEvent(id string) runtime.Event {
	return runtime.Event{ID: id, Kind: runtime.OOMKilled, At: time.Now()}
}

func (c *container) answer() runtime.Container {
	out := c.Container
	out.Labels = maps.Clone(c.Labels)
	return out
}

func (c *container) writeOutput() error {
	if c.spec.LogPath == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.spec.LogPath), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(c.spec.LogPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteString(c.script.Output)
	return errors.Join(err, f.Close())
}
