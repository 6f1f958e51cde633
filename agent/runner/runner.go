package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/plimsoll-project/plimsoll/agent/journal"
	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/cni"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// Puller brings an image onto the host and answers name@digest and the digest.
// Now and then tell hears how far it is.
type Puller interface {
	Pull(ctx context.Context, image string, tell func(string)) (ref, digest string, err error)
}

// Logs says where a container's output goes, and that a task has stopped.
type Logs interface {
	Path(task, container string) string
	Stopped(task string) error
}

// Config is what a Runner needs.
type Config struct {
	Runtime runtime.Runtime
	Network cni.Network
	Images  Puller
	Logs    Logs
	Journal *journal.Journal
	// Report is told each new status, in order for each task. It must not block.
	Report func(*pb.TaskStatusRecord)
	// Dir holds the tasks' generated files.
	Dir      string
	Hostname string
	// Launches is how many containers are created and started at once.
	Launches int
	Now      func() time.Time
	Logger   *slog.Logger
}

// Runner runs the host's tasks. It is safe for concurrent use.
type Runner struct {
	cfg    Config
	ctx    context.Context
	launch chan struct{} // the semaphore of launches
	wg     sync.WaitGroup
	// turn is held by Assign and Sweep: what a new task makes is not swept.
	turn sync.Mutex

	mu    sync.Mutex
	tasks map[string]*task
}

// New makes a Runner; its tasks end with ctx, and leave their containers
// running. Wait waits for them.
func New(ctx context.Context, cfg Config) *Runner {
	return &Runner{cfg: cfg, ctx: ctx, launch: make(chan struct{}, max(1, cfg.Launches)), tasks: map[string]*task{}}
}

// Wait waits until every task's goroutines have ended.
func (r *Runner) Wait() { r.wg.Wait() }

// Recover takes over what an earlier agent ran: tasks from the journal, with
// their containers as they are observed now.
func (r *Runner) Recover(ctx context.Context) error {
	entries, err := r.cfg.Journal.Load()
	if err != nil {
		return err
	}
	containers, err := r.cfg.Runtime.List(ctx)
	if err != nil {
		return err
	}
	byID := map[string]runtime.Container{}
	for _, c := range containers {
		byID[c.ID] = c
	}
	var adopted []*task
	var statuses []*pb.TaskStatusRecord
	for id, e := range entries {
		if taskstate.Parse(e.Status.GetLastStatus()) == taskstate.Stopped {
			// It is reported until the control plane no longer assigns it.
			r.cfg.Report(e.Status)
			r.keep(id, nil)
			continue
		}
		t := newTask(r, e.Assignment)
		t.adopt(e.Status, byID)
		adopted, statuses = append(adopted, t), append(statuses, t.status)
	}
	// Their versions are on disk before they are told, so that the next agent's
	// are higher.
	if err := r.cfg.Journal.NoteAll(statuses); err != nil {
		return err
	}
	for _, t := range adopted {
		r.keep(t.a.GetTaskId(), t)
	}
	return nil
}

func (r *Runner) keep(id string, t *task) {
	r.mu.Lock()
	r.tasks[id] = t
	r.mu.Unlock()
	if t != nil {
		r.wg.Go(t.run)
	}
}

// Assign has tasks run, or changes what is wanted of those that run.
func (r *Runner) Assign(all ...*pb.Assignment) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	var fresh []*pb.Assignment
	for _, a := range all {
		r.mu.Lock()
		t, known := r.tasks[a.GetTaskId()]
		r.mu.Unlock()
		if t != nil {
			t.want(a)
		} else if !known {
			fresh = append(fresh, a)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := r.cfg.Journal.Assign(fresh...); err != nil {
		return err
	}
	for _, a := range fresh {
		t := newTask(r, a)
		t.want(a)
		r.keep(a.GetTaskId(), t)
	}
	return nil
}

// Unassign says that a task is no longer this host's: it is stopped if it runs,
// and forgotten once nothing of it is left.
func (r *Runner) Unassign(id string) error {
	r.mu.Lock()
	t, known := r.tasks[id]
	if known && t == nil {
		delete(r.tasks, id)
	}
	r.mu.Unlock()
	switch {
	case !known:
		return nil
	case t == nil:
		return r.cfg.Journal.Forget(id)
	}
	t.disown()
	return nil
}

// Tasks are the ids of the tasks that are known.
func (r *Runner) Tasks() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]string, 0, len(r.tasks))
	for id := range r.tasks {
		ids = append(ids, id)
	}
	return ids
}

// ended is called by a task that is over. It stays known, so that its last status
// is not followed by a new start, until it is unassigned.
func (r *Runner) ended(id string, disowned bool) {
	r.mu.Lock()
	if disowned {
		delete(r.tasks, id)
	} else {
		r.tasks[id] = nil
	}
	r.mu.Unlock()
	if disowned {
		if err := r.cfg.Journal.Forget(id); err != nil {
			r.cfg.Logger.Warn("forget a task", "task", id, "err", err)
		}
	}
}

// Exited hands on that a container's process ended.
func (r *Runner) Exited(taskID string, e runtime.Event) {
	r.mu.Lock()
	t := r.tasks[taskID]
	r.mu.Unlock()
	if t != nil {
		t.event(e)
	}
}

// Observe hands on what a listing shows: it makes up for events that were lost.
func (r *Runner) Observe(containers []runtime.Container) {
	byID := map[string]runtime.Container{}
	for _, c := range containers {
		byID[c.ID] = c
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.tasks {
		if t != nil {
			t.listing(byID)
		}
	}
}

// Sweep removes containers and networks that belong to no known task. It is
// called once the first complete set of assignments is here, and again if it
// fails.
func (r *Runner) Sweep(ctx context.Context) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	containers, err := r.cfg.Runtime.List(ctx)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var errs []error
	r.mu.Lock()
	known := map[string]bool{}
	var keep []string
	for _, t := range r.tasks {
		if t == nil {
			continue
		}
		for _, c := range t.containers {
			known[c.id] = true
			keep = append(keep, c.id)
		}
	}
	r.mu.Unlock()
	for _, c := range containers {
		if !known[c.ID] {
			r.cfg.Logger.Info("remove a container that no task owns", "container", c.ID)
			if err := r.cfg.Runtime.Remove(ctx, c.ID); err != nil {
				errs = append(errs, fmt.Errorf("remove container %s: %w", c.ID, err))
			}
		}
	}
	removed, err := r.cfg.Network.GC(ctx, keep)
	if err != nil {
		errs = append(errs, fmt.Errorf("remove networks: %w", err))
	}
	if len(removed) > 0 {
		r.cfg.Logger.Info("removed networks that no task owns", "count", len(removed))
	}
	return errors.Join(errs...)
}

// Counts are figures of a Runner.
type Counts struct {
	// Tasks that are not over; Ended ones that are, and still assigned.
	Tasks, Ended int
	// Launching is how many containers are being created or started, at most
	// Launches.
	Launching, Launches int
}

// Counts answers the figures now.
func (r *Runner) Counts() Counts {
	c := Counts{Launching: len(r.launch), Launches: cap(r.launch)}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.tasks {
		if t == nil {
			c.Ended++
		} else {
			c.Tasks++
		}
	}
	return c
}
