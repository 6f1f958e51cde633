package containerd_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/agent/runtime/containerd"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/behaviour"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/daemon"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/testimage"
)

const namespace = "plimsoll-test"

// bed is a containerd with the test image and a runtime over it.
type bed struct {
	runtimetest.Harness
	*daemon.Daemon
	runtime *containerd.Runtime
}

func newBed(t testing.TB) *bed {
	t.Helper()
	d := daemon.Start(t)
	b := &bed{Daemon: d, Harness: runtimetest.Harness{Image: d.Load(testimage.Build(t), namespace, "test.local/behave"), Parallel: 4}}
	b.attach(t)
	return b
}

// attach makes a runtime as an agent that starts would.
func (b *bed) attach(t testing.TB) {
	t.Helper()
	r, err := containerd.New(t.Context(), containerd.Config{
		Address: b.Address, Namespace: namespace, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	b.Harness.Runtime, b.runtime = r, r
}

func TestContainerdPassesTheSuite(t *testing.T) {
	b := newBed(t)
	runtimetest.Run(t, b.Harness)
	if left, err := b.runtime.List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left over: %+v, %v", left, err)
	}
	left := 0
	c := b.Client(namespace)
	defer c.Close()
	records, err := c.ContainerService().List(t.Context())
	if err != nil || len(records) != 0 {
		t.Errorf("records left: %d, %v", len(records), err)
	}
	for id := range b.Shims() {
		t.Logf("shim of %s is left", id)
		left++
	}
	if left > 0 {
		t.Errorf("%d shims left", left)
	}
	if cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/" + namespace + "/*/cgroup.procs"); len(cgroups) > 0 {
		t.Errorf("cgroups left: %q", cgroups)
	}
}

func BenchmarkLaunch(b *testing.B) {
	bed := newBed(b)
	ctx := context.Background()
	for b.Loop() {
		spec := runtime.Spec{
			ID: runtimetest.ID(b), Image: bed.Image, LogPath: filepath.Join(bed.Dir, "log"),
			Process: runtime.Process{Command: behaviour.Behaviour{After: behaviour.Forever}.Args()},
		}
		if _, err := bed.runtime.Create(ctx, spec); err != nil {
			b.Fatal(err)
		}
		if err := bed.runtime.Start(ctx, spec.ID); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := bed.runtime.Remove(ctx, spec.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	_ = os.Remove(filepath.Join(bed.Dir, "log"))
}
