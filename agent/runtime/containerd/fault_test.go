package containerd_test

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

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/behaviour"
)

// dead says whether a process has ended.
func dead(pid int) error {
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(b), ") Z ") {
		return fmt.Errorf("process %d lives", pid)
	}
	return nil
}

func TestKilledShimIsAStopWith137AndIsRemoved(t *testing.T) {
	b := newBed(t)
	spec := b.Spec(t, behaviour.Behaviour{After: behaviour.Forever, IgnoreTerm: true, Children: 2, Print: "ready\n"})
	c := b.Launch(t, spec)
	runtimetest.AwaitLog(t, spec.LogPath, "ready\n")
	shim := b.Shims()[spec.ID]
	if shim == 0 {
		t.Fatal("no shim")
	}
	events := b.runtime.Events(t.Context())
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if c := b.Await(t, spec.ID, runtime.Stopped); c.ExitCode != 137 || c.ExitedAt.IsZero() {
		t.Errorf("after its shim was killed: %+v", c)
	}
	select {
	case e := <-events:
		if e.ID != spec.ID || e.Kind != runtime.Exited || e.ExitCode != 137 {
			t.Errorf("event %+v", e)
		}
	case <-time.After(10 * time.Second):
		t.Log("containerd sent no event; a relist tells")
	}
	if err := b.runtime.Remove(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if err := dead(c.Pid); err != nil {
		t.Error(err)
	}
	if _, err := b.runtime.Get(t.Context(), spec.ID); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("after removal: %v", err)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + namespace + "/" + spec.ID); len(left) > 0 {
		t.Errorf("cgroups left: %q", left)
	}
}

// TestShimKilledWhileContainerdIsAway is the case in which nobody notices.
func TestShimKilledWhileContainerdIsAway(t *testing.T) {
	b := newBed(t)
	spec := b.Spec(t, behaviour.Behaviour{After: behaviour.Forever, IgnoreTerm: true, Print: "ready\n"})
	c := b.Launch(t, spec)
	shim := b.Shims()[spec.ID]
	b.Kill()
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	runtimetest.Eventually(t, func() error { return dead(shim) })
	b.Resume()
	b.Await(t, spec.ID, runtime.Stopped)
	if err := b.runtime.Remove(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	runtimetest.Eventually(t, func() error { return dead(c.Pid) })
}

func TestContainersOutliveContainerdAndAgent(t *testing.T) {
	b := newBed(t)
	spec := b.Spec(t, behaviour.Behaviour{After: behaviour.Forever, TermExit: 4, Print: "ready\n"})
	spec.Labels = map[string]string{"task": "x"}
	first := b.Launch(t, spec)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := b.runtime.Events(ctx)
	b.Kill()
	if err := dead(first.Pid); err == nil {
		t.Fatal("the container ended with containerd")
	}
	b.Resume()
	if c := b.Await(t, spec.ID, runtime.Running); c.Pid != first.Pid || c.Labels["task"] != "x" {
		t.Errorf("after containerd's return: %+v", c)
	}
	// The agent restarts: a runtime of its own finds the same.
	b.attach(t)
	if c := b.Await(t, spec.ID, runtime.Running); c.Pid != first.Pid || c.StopSignal != int(syscall.SIGQUIT) {
		t.Errorf("as a new agent sees it: %+v", c)
	}
	runtimetest.AwaitLog(t, spec.LogPath, "ready\n")
	// The subscription came back by itself: exits of short containers are sent
	// until one is received.
	deadline := time.After(30 * time.Second)
	for seen := false; !seen; {
		short := b.Spec(t, behaviour.Behaviour{Exit: 6})
		b.Launch(t, short)
		select {
		case e := <-events:
			seen = e.ExitCode == 6 && e.Kind == runtime.Exited
		case <-time.After(time.Second):
		case <-deadline:
			t.Fatal("no event since containerd's return")
		}
	}
	if err := b.runtime.Kill(t.Context(), spec.ID, int(syscall.SIGTERM), false); err != nil {
		t.Fatal(err)
	}
	if c := b.Await(t, spec.ID, runtime.Stopped); c.ExitCode != 4 {
		t.Errorf("exit %d, want 4", c.ExitCode)
	}
}

// TestUnfinishedLaunchIsNobodys makes what an agent leaves that was killed
// between the calls of Create.
func TestUnfinishedLaunchIsNobodys(t *testing.T) {
	b := newBed(t)
	c := b.Client(namespace)
	defer c.Close()
	leave := func(id string) {
		t.Helper()
		empty, err := typeurl.MarshalAny(&specs.Spec{})
		if err != nil {
			t.Fatal(err)
		}
		record := containers.Container{ID: id, Spec: empty, Image: b.Image, Runtime: containers.RuntimeInfo{Name: "io.containerd.runc.v2"}, Snapshotter: "overlayfs", SnapshotKey: id}
		if _, err := c.ContainerService().Create(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		if _, err := c.SnapshotService("overlayfs").Prepare(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
	}
	spec := b.Spec(t, behaviour.Behaviour{After: behaviour.Forever})
	leave(spec.ID)
	if _, err := b.runtime.Get(t.Context(), spec.ID); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if all, err := b.runtime.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("list: %+v, %v", all, err)
	}
	b.Launch(t, spec)
	b.Await(t, spec.ID, runtime.Running)

	other := runtimetest.ID(t)
	leave(other)
	b.attach(t)
	if _, err := c.ContainerService().Get(t.Context(), other); !errdefs.IsNotFound(err) {
		t.Errorf("a new runtime left the record: %v", err)
	}
	if _, err := c.SnapshotService("overlayfs").Stat(t.Context(), other); !errdefs.IsNotFound(err) {
		t.Errorf("a new runtime left the snapshot: %v", err)
	}
	b.Await(t, spec.ID, runtime.Running)
}

// TestGarbageCollectionSparesALaunch: the record alone protects the snapshot,
// whose image may even be removed.
func TestGarbageCollectionSparesALaunch(t *testing.T) {
	b := newBed(t)
	c := b.Client(namespace)
	defer c.Close()
	spec := b.Spec(t, behaviour.Behaviour{After: behaviour.Forever, Print: "ready\n"})
	if _, err := b.runtime.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	all, err := c.ImageService().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if err := c.ImageService().Delete(t.Context(), i.Name, images.SynchronousDelete()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.runtime.Start(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	runtimetest.AwaitLog(t, spec.LogPath, "ready\n")
	if _, err := c.SnapshotService("overlayfs").Stat(t.Context(), spec.ID); err != nil {
		t.Error(err)
	}
}

func TestOutOfMemoryIsAnEventAndAnExit(t *testing.T) {
	b := newBed(t)
	events := b.runtime.Events(t.Context())
	spec := b.Spec(t, behaviour.Behaviour{After: behaviour.Forever, Allocate: 256})
	limit := int64(48 << 20)
	spec.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}
	b.Launch(t, spec)
	kinds := map[runtime.EventKind]int{}
	deadline := time.After(30 * time.Second)
	for len(kinds) < 2 {
		select {
		case e := <-events:
			if e.ID == spec.ID {
				kinds[e.Kind] = e.ExitCode
			}
		case <-deadline:
			t.Fatalf("events so far: %v", kinds)
		}
	}
	if kinds[runtime.Exited] != 137 {
		t.Errorf("exit %d", kinds[runtime.Exited])
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	b := newBed(t)
	spec := b.Spec(t, behaviour.Behaviour{})
	spec.Process.Entrypoint = []string{"/bin/missing"}
	if _, err := b.runtime.Create(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "/bin/missing") {
		t.Errorf("create: %v", err)
	}
	unknown := b.Spec(t, behaviour.Behaviour{})
	unknown.Process.User = "stranger"
	if _, err := b.runtime.Create(t.Context(), unknown); err == nil || !strings.Contains(err.Error(), "stranger") {
		t.Errorf("create: %v", err)
	}
	absent := b.Spec(t, behaviour.Behaviour{})
	absent.Image = "test.local/absent@sha256:" + strings.Repeat("0", 64)
	if _, err := b.runtime.Create(t.Context(), absent); err == nil {
		t.Error("an absent image was run")
	}
	c := b.Client(namespace)
	defer c.Close()
	if left, err := c.ContainerService().List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left: %d, %v", len(left), err)
	}
	if len(b.Shims()) > 0 {
		t.Errorf("shims left: %v", b.Shims())
	}
}
