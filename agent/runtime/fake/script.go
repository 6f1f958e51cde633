package fake

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Forever as Script.After makes a process that ends by a signal alone.
const Forever time.Duration = -1

// Script is the life of one container. The zero Script exits with 0 as soon as
// it is started.
type Script struct {
	// ExitCode is what the process ends with when After has passed since its
	// start; Forever is never.
	ExitCode int
	After    time.Duration
	// Ignore are signals that change nothing; SIGKILL cannot be ignored.
	Ignore []int
	// SignalExit is the exit code for a signal, 128 + signal if not given.
	SignalExit map[int]int
	// CreateDelay and StartDelay are how long those calls take.
	CreateDelay, StartDelay time.Duration
	// CreateErr and StartErr are what those calls answer.
	CreateErr, StartErr error
	// Output is written to the container's log file when it starts.
	Output string
	// StopSignal is the image's, SIGTERM if 0.
	StopSignal int
}

// Op names a method for FailNext and Calls.
type Op string

// The operations.
const (
	OpCreate Op = "create"
	OpStart  Op = "start"
	OpKill   Op = "kill"
	OpRemove Op = "remove"
	OpList   Op = "list"
	OpGet    Op = "get"
)

// Call is one call that was made.
type Call struct {
	Op     Op
	ID     string
	Signal int // of a kill
}

// FailNext makes the next call of op fail with err; several queue up.
func (r *Runtime) FailNext(op Op, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail[op] = append(r.fail[op], err)
}

// Calls answers the calls of the given operations so far, all when none is
// given, in their order.
func (r *Runtime) Calls(ops ...Op) []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Call
	for _, c := range r.calls {
		if len(ops) == 0 || slices.Contains(ops, c.Op) {
			out = append(out, c)
		}
	}
	return out
}

// Exit ends a running container's process with the code, as a crash would.
func (r *Runtime) Exit(id string, code int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil || c.Status != running {
		return fmt.Errorf("exit container %s: not running", id)
	}
	r.exit(c, code)
	return nil
}

// OOM kills a running container as the kernel does when memory runs out: an
// OOMKilled event, then an exit with 137.
func (r *Runtime) OOM(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil || c.Status != running {
		return fmt.Errorf("oom container %s: not running", id)
	}
	r.send(oomEvent(id))
	r.exit(c, 137)
	return nil
}

// Vanish ends a container without any event, as when its shim is killed while
// nobody listens: only List and Get tell.
func (r *Runtime) Vanish(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return fmt.Errorf("vanish container %s: %w", id, errNotFound)
	}
	r.end(c, 137)
	return nil
}

// DropEvents closes nothing but loses every event until it is called with
// false.
func (r *Runtime) DropEvents(drop bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop = drop
}

// pass waits for d or the context's end.
func pass(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
