package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/behaviour"
)

// Harness is a runtime under test.
type Harness struct {
	Runtime runtime.Runtime
	// Image is the reference of an image that obeys behaviour.Behaviour in its
	// command.
	Image string
	// Parallel is how many containers to launch at once in the test of that.
	Parallel int
}

const patience = 30 * time.Second

// Run runs the suite. Each test has its own container names, so one runtime
// serves all of them.
func Run(t *testing.T, h Harness) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"a container is created, started, exits with its code and is removed", testLife},
		{"create answers what exists as created, refuses what runs", testCreateTwice},
		{"start of what runs changes nothing", testStartTwice},
		{"a signal reaches the process", testSignal},
		{"an ignored SIGTERM leaves it running, SIGKILL ends it", testKill},
		{"remove kills what runs and twice is no error", testRemove},
		{"what does not exist is ErrNotFound", testNotFound},
		{"labels come back", testLabels},
		{"both outputs are in the log file", testLog},
		{"events tell exits and end with their context", testEvents},
		{"many launch at once", testMany},
		{"a context that has ended makes nothing", testEnded},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) { test.run(t, h) })
	}
}

var counter = time.Now().UnixNano()

// ID answers a container name that no other test has.
func ID(t testing.TB) string {
	counter++
	return fmt.Sprintf("t%x-%d", counter, os.Getpid())
}

// Spec answers a specification of a container with the behaviour, removed when
// the test ends.
func (h Harness) Spec(t testing.TB, b behaviour.Behaviour) runtime.Spec {
	id := ID(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Runtime.Remove(ctx, id); err != nil {
			t.Errorf("remove %s: %v", id, err)
		}
	})
	return runtime.Spec{
		ID: id, Image: h.Image, Process: runtime.Process{Command: b.Args()},
		LogPath: filepath.Join(t.TempDir(), "out.log"),
	}
}

// Launch creates and starts the container.
func (h Harness) Launch(t testing.TB, spec runtime.Spec) runtime.Container {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := h.Runtime.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Runtime.Start(ctx, spec.ID); err != nil {
		t.Fatal(err)
	}
	return c
}

// Await waits until the container has the status.
func (h Harness) Await(t testing.TB, id string, want runtime.Status) runtime.Container {
	t.Helper()
	var last runtime.Container
	Eventually(t, func() (err error) {
		if last, err = h.Runtime.Get(t.Context(), id); err == nil && last.Status != want {
			err = fmt.Errorf("container %s is %s, not %s", id, last.Status, want)
		}
		return err
	})
	return last
}

// Eventually waits until check answers nil.
func Eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("not in time: %v", err)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-tick.C:
		}
	}
}

func testLife(t *testing.T, h Harness) {
	spec := h.Spec(t, behaviour.Behaviour{Exit: 7, After: 200 * time.Millisecond})
	before := time.Now().Add(-2 * time.Second)
	c, err := h.Runtime.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != spec.ID || c.Status != runtime.Created || c.Pid == 0 || c.Image != h.Image || c.StopSignal == 0 || c.CreatedAt.Before(before) {
		t.Errorf("created: %+v", c)
	}
	if err := h.Runtime.Start(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if c = h.Await(t, spec.ID, runtime.Stopped); c.ExitCode != 7 || c.ExitedAt.Before(before) || c.Pid != 0 {
		t.Errorf("stopped: %+v", c)
	}
	if err := h.Runtime.Start(t.Context(), spec.ID); err == nil {
		t.Error("what has exited was started again")
	}
	if err := h.Runtime.Remove(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Runtime.Get(t.Context(), spec.ID); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("removed, and still: %v", err)
	}
}

func testCreateTwice(t *testing.T, h Harness) {
	spec := h.Spec(t, behaviour.Behaviour{After: behaviour.Forever})
	first, err := h.Runtime.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.Runtime.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("created again (-first +second):\n%s", diff)
	}
	if err := h.Runtime.Start(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Runtime.Create(t.Context(), spec); err == nil {
		t.Error("a running container was created again")
	}
	if c := h.Await(t, spec.ID, runtime.Running); c.Pid != first.Pid {
		t.Errorf("the refused create changed the process from %d to %d", first.Pid, c.Pid)
	}
}

func testStartTwice(t *testing.T, h Harness) {
	spec := h.Spec(t, behaviour.Behaviour{After: behaviour.Forever})
	c := h.Launch(t, spec)
	if err := h.Runtime.Start(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if again := h.Await(t, spec.ID, runtime.Running); again.Pid != c.Pid {
		t.Errorf("the process changed from %d to %d", c.Pid, again.Pid)
	}
}

func testSignal(t *testing.T, h Harness) {
	spec := h.Spec(t, behaviour.Behaviour{After: behaviour.Forever, TermExit: 3, Print: "ready\n"})
	h.Launch(t, spec)
	AwaitLog(t, spec.LogPath, "ready\n")
	if err := h.Runtime.Kill(t.Context(), spec.ID, int(syscall.SIGTERM), false); err != nil {
		t.Fatal(err)
	}
	if c := h.Await(t, spec.ID, runtime.Stopped); c.ExitCode != 3 {
		t.Errorf("exit code %d, want 3", c.ExitCode)
	}
	if err := h.Runtime.Kill(t.Context(), spec.ID, int(syscall.SIGTERM), false); err != nil {
		t.Errorf("kill what has exited: %v", err)
	}
}

func testKill(t *testing.T, h Harness) {
	spec := h.Spec(t, behaviour.Behaviour{After: behaviour.Forever, IgnoreTerm: true, Print: "ready\n"})
	h.Launch(t, spec)
	AwaitLog(t, spec.LogPath, "ready\n")
	if err := h.Runtime.Kill(t.Context(), spec.ID, int(syscall.SIGTERM), false); err != nil {
		t.Fatal(err)
	}
	if c, err := h.Runtime.Get(t.Context(), spec.ID); err != nil || c.Status != runtime.Running {
		t.Errorf("after an ignored SIGTERM: %+v, %v", c, err)
	}
	if err := h.Runtime.Kill(t.Context(), spec.ID, int(syscall.SIGKILL), true); err != nil {
		t.Fatal(err)
	}
	if c := h.Await(t, spec.ID, runtime.Stopped); c.ExitCode != 137 {
		t.Errorf("exit code %d, want 137", c.ExitCode)
	}
}

func testRemove(t *testing.T, h Harness) {
	running := h.Spec(t, behaviour.Behaviour{After: behaviour.Forever, IgnoreTerm: true})
	h.Launch(t, running)
	created := h.Spec(t, behaviour.Behaviour{After: behaviour.Forever})
	if _, err := h.Runtime.Create(t.Context(), created); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, spec := range []runtime.Spec{running, created} {
			if err := h.Runtime.Remove(t.Context(), spec.ID); err != nil {
				t.Fatal(err)
			}
			if c, err := h.Runtime.Get(t.Context(), spec.ID); !errors.Is(err, runtime.ErrNotFound) {
				t.Errorf("removed, and still %+v, %v", c, err)
			}
		}
	}
	// The name is free again.
	if c := h.Launch(t, running); c.Status != runtime.Created {
		t.Errorf("created again: %+v", c)
	}
}

func testNotFound(t *testing.T, h Harness) {
	id := ID(t)
	if _, err := h.Runtime.Get(t.Context(), id); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if err := h.Runtime.Start(t.Context(), id); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("start: %v", err)
	}
	if err := h.Runtime.Kill(t.Context(), id, int(syscall.SIGKILL), true); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("kill: %v", err)
	}
	if err := h.Runtime.Remove(t.Context(), id); err != nil {
		t.Errorf("remove: %v", err)
	}
}

func testLabels(t *testing.T, h Harness) {
	spec := h.Spec(t, behaviour.Behaviour{After: behaviour.Forever})
	spec.Labels = map[string]string{"com.amazonaws.ecs.container-name": "web", "empty": ""}
	h.Launch(t, spec)
	all, err := h.Runtime.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.ID != spec.ID {
			continue
		}
		if diff := cmp.Diff(spec.Labels, c.Labels); diff != "" || c.Status != runtime.Running {
			t.Errorf("listed as %+v (-want +got):\n%s", c, diff)
		}
		return
	}
	t.Errorf("%s is not among %d listed", spec.ID, len(all))
}

func testLog(t *testing.T, h Harness) {
	spec := h.Spec(t, behaviour.Behaviour{Print: "to stdout\n", PrintErr: "to stderr\n"})
	if err := os.WriteFile(spec.LogPath, []byte("earlier\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	h.Launch(t, spec)
	h.Await(t, spec.ID, runtime.Stopped)
	AwaitLog(t, spec.LogPath, "earlier\n", "to stdout\n", "to stderr\n")
}

// AwaitLog waits until the file holds all of the texts.
func AwaitLog(t testing.TB, path string, texts ...string) {
	t.Helper()
	Eventually(t, func() error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, text := range texts {
			if !strings.Contains(string(b), text) {
				return fmt.Errorf("%q is not in %q", text, b)
			}
		}
		return nil
	})
}

func testEvents(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := h.Runtime.Events(ctx)
	spec := h.Spec(t, behaviour.Behaviour{Exit: 5, After: 300 * time.Millisecond})
	h.Launch(t, spec)
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for seen := false; !seen; {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatal("the channel closed early")
			}
			if seen = e.ID == spec.ID; seen && (e.Kind != runtime.Exited || e.ExitCode != 5 || e.At.IsZero()) {
				t.Errorf("event %+v", e)
			}
		case <-deadline.C:
			t.Fatal("no event")
		}
	}
	cancel()
	for {
		select {
		case _, ok := <-events:
			if !ok {
				return
			}
		case <-deadline.C:
			t.Fatal("the channel did not close")
		}
	}
}

func testMany(t *testing.T, h Harness) {
	specs := make([]runtime.Spec, 3*h.Parallel)
	for i := range specs {
		specs[i] = h.Spec(t, behaviour.Behaviour{Exit: i, After: 10 * time.Millisecond})
	}
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(h.Parallel)
	for _, spec := range specs {
		g.Go(func() error {
			if _, err := h.Runtime.Create(ctx, spec); err != nil {
				return err
			}
			return h.Runtime.Start(ctx, spec.ID)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, spec := range specs {
		if c := h.Await(t, spec.ID, runtime.Stopped); c.ExitCode != i {
			t.Errorf("container %d exited with %d", i, c.ExitCode)
		}
	}
}

func testEnded(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	spec := h.Spec(t, behaviour.Behaviour{})
	if _, err := h.Runtime.Create(ctx, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("create: %v", err)
	}
	if _, err := h.Runtime.Get(t.Context(), spec.ID); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("a refused create left %v", err)
	}
}
