package placement

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// TestPlanNeverOverfills draws hosts, tasks on them and pending tasks, and holds
// the plan against what each host registered.
func TestPlanNeverOverfills(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		n := rapid.IntRange(1, 8).Draw(t, "hosts")
		for i := range n {
			w.host(fmt.Sprint("h", i), rapid.Int32Range(0, 400).Draw(t, "cpu"), rapid.Int32Range(0, 400).Draw(t, "mem"),
				fmt.Sprint("rack=", rapid.IntRange(0, 2).Draw(t, "rack")))
		}
		chains := [][]option{nil, {strategy(spreadType, "attribute:rack"), strategy(binpackType, "cpu")}, {strategy(binpackType, "memory")},
			{strategy(randomType, "")}, {strategy(spreadType, "host"), strategy(randomType, "")}}
		var pending []*model.Task
		for g := range rapid.IntRange(1, 5).Draw(t, "groups") {
			options := append([]option{group(fmt.Sprint("g", g))}, rapid.SampledFrom(chains).Draw(t, "chain")...)
			if rapid.Bool().Draw(t, "distinct") {
				options = append(options, distinct)
			}
			if p := rapid.Int32Range(0, 4).Draw(t, "port"); p > 0 {
				options = append(options, port(p))
			}
			cpu, mem := rapid.Int64Range(0, 120).Draw(t, "cpu"), rapid.Int64Range(0, 120).Draw(t, "mem")
			for i := range rapid.IntRange(0, 12).Draw(t, "tasks") {
				pending = append(pending, &model.Task{Record: task(fmt.Sprintf("g%dt%d", g, i), cpu, mem, options...)})
			}
		}
		s := w.snapshot()
		r := Plan(s, pending, Config{Seed: 7})
		if len(r.Bindings)+len(r.Failures) != len(pending) {
			t.Fatalf("%d bound, %d failed of %d", len(r.Bindings), len(r.Failures), len(pending))
		}
		var changes []model.Change
		groups := map[string]bool{}
		for _, b := range r.Bindings {
			rec := b.Task.Record
			rec.Instance = b.Instance
			key := rec.GetTask().GetGroup() + " on " + b.Instance
			if groups[key] && isDistinct(rec) {
				t.Fatalf("%s twice", key)
			}
			groups[key] = true
			changes = append(changes, model.Change{Key: b.Task.Key(), Value: rec, Revision: 2})
		}
		after := s.With(2, changes)
		for i := range after.Instances("c") {
			has := i.Registered()
			if i.Used.CPU > has.CPU || i.Used.Memory > has.Memory {
				t.Fatalf("%s has %+v, used %+v", i.Record.GetId(), has, i.Used)
			}
			seen := map[model.Port]bool{}
			for _, p := range append(has.Ports, i.Used.Ports...) {
				if seen[p] {
					t.Fatalf("%s uses port %v twice", i.Record.GetId(), p)
				}
				seen[p] = true
			}
		}
		// Whoever failed does not fit anywhere now either.
		for _, f := range r.Failures {
			for i := range after.Instances("c") {
				if Check(after, f.Task, i.Record.GetId()) == nil {
					t.Fatalf("task %s fits on %s, and was not placed: %s", f.Task.Record.GetId(), i.Record.GetId(), f.Detail)
				}
			}
		}
	})
}

func isDistinct(r *pb.TaskRecord) bool {
	for _, c := range r.GetPlacementConstraints() {
		if c.GetType() == pb.PlacementConstraintType_PLACEMENT_CONSTRAINT_TYPE_DISTINCT_INSTANCE {
			return true
		}
	}
	return false
}

// BenchmarkPlan: one operation places 1,000 tasks of ten services.
func BenchmarkPlan(b *testing.B) {
	for name, options := range map[string][]option{
		"spread":     nil,
		"binpack":    {strategy(binpackType, "memory")},
		"constraint": {member("attribute:rack != 3 and attribute:ssd =~ y.*")},
	} {
		for _, n := range []int{100, 1_000, 10_000} {
			b.Run(fmt.Sprintf("%s/hosts=%d", name, n), func(b *testing.B) {
				w := newWorld()
				for i := range n {
					w.host(fmt.Sprintf("h%05d", i), 64<<10, 256<<10, fmt.Sprint("rack=", i%20), "ssd=yes", fmt.Sprint("ecs.availability-zone=", i%3))
				}
				s := w.snapshot()
				var pending []*model.Task
				for g := range 10 {
					pending = append(pending, some(100, 100, 100, append(options, group(fmt.Sprint("g", g)))...)...)
				}
				b.ReportAllocs()
				for b.Loop() {
					if r := Plan(s, pending, Config{}); len(r.Bindings) != len(pending) {
						b.Fatal(r.Failures[0])
					}
				}
			})
		}
	}
}
