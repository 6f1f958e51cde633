package fake_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/agent/runtime/fake"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/behaviour"
)

func TestFakePassesTheSuite(t *testing.T) {
	r := fake.New(func(spec runtime.Spec) fake.Script {
		b, err := behaviour.Parse(spec.Process.Command)
		if err != nil {
			return fake.Script{CreateErr: err}
		}
		s := fake.Script{
			ExitCode: b.Exit, After: b.After, Output: b.Print + b.PrintErr,
			SignalExit: map[int]int{int(syscall.SIGTERM): b.TermExit},
		}
		if b.IgnoreTerm {
			s.Ignore = []int{int(syscall.SIGTERM)}
		}
		return s
	})
	t.Cleanup(func() { r.Close() })
	runtimetest.Run(t, runtimetest.Harness{Runtime: r, Image: "test@sha256:" + strings.Repeat("0", 64), Parallel: 20})
}

func TestScriptsRunInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := fake.New(func(runtime.Spec) fake.Script {
			return fake.Script{ExitCode: 3, After: time.Hour, CreateDelay: time.Minute}
		})
		begin := time.Now()
		if _, err := r.Create(t.Context(), runtime.Spec{ID: "a"}); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		e := <-r.Events(t.Context())
		want := runtime.Event{ID: "a", Kind: runtime.Exited, ExitCode: 3, At: begin.Add(time.Hour + time.Minute)}
		if diff := cmp.Diff(want, e); diff != "" {
			t.Error(diff)
		}
	})
}

func TestFaults(t *testing.T) {
	r := fake.New(nil)
	broken := errors.New("broken")
	r.FailNext(fake.OpCreate, broken)
	if _, err := r.Create(t.Context(), runtime.Spec{ID: "a"}); !errors.Is(err, broken) {
		t.Errorf("create: %v", err)
	}
	if _, err := r.Create(t.Context(), runtime.Spec{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	events := r.Events(t.Context())
	if err := r.OOM("a"); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != runtime.OOMKilled {
		t.Errorf("first event %+v", e)
	}
	if e := <-events; e.Kind != runtime.Exited || e.ExitCode != 137 {
		t.Errorf("second event %+v", e)
	}
	if err := r.Exit("a", 1); err == nil {
		t.Error("a stopped container exited again")
	}
	want := []fake.Call{{Op: fake.OpCreate, ID: "a"}, {Op: fake.OpCreate, ID: "a"}, {Op: fake.OpStart, ID: "a"}}
	if diff := cmp.Diff(want, r.Calls()); diff != "" {
		t.Error(diff)
	}
}

func TestVanishTellsNobody(t *testing.T) {
	r := fake.New(nil)
	events := r.Events(t.Context())
	if _, err := r.Create(t.Context(), runtime.Spec{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Vanish("a"); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Get(t.Context(), "a"); err != nil || c.Status != runtime.Stopped || c.ExitCode != 137 {
		t.Errorf("%+v, %v", c, err)
	}
	select {
	case e := <-events:
		t.Errorf("event %+v", e)
	default:
	}
}
