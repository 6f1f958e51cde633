package reconcile

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// TestServicesConverge has users, hosts and tasks do what they like, checks at
// each step that what the reconciler does keeps the percents, and then, with
// faults ended, that the service gets there and stays there.
func TestServicesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		minimum := rapid.SampledFrom([]int32{0, 50, 100}).Draw(t, "minimum")
		maximum := rapid.SampledFrom([]int32{100, 150, 200}).Draw(t, "maximum")
		if minimum == 100 && maximum == 100 {
			maximum = 200
		}
		count := rapid.Int32Range(2, 9).Draw(t, "desired")
		definition, n := 1, 1
		set := func(change func(*pb.Service)) { w.service("web", definition, n, change) }
		set(func(s *pb.Service) { percents(minimum, maximum)(s); s.DesiredCount = count })
		for range rapid.IntRange(5, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			case 0:
				definition, n = rapid.IntRange(1, 4).Draw(t, "definition"), n+1
				set(nil)
			case 1:
				count = rapid.Int32Range(2, 9).Draw(t, "desired")
				set(desired(count))
			case 2:
				if tasks := w.tasks("web"); len(tasks) > 0 {
					task := rapid.SampledFrom(tasks).Draw(t, "victim")
					if task.Record.GetInstance() != "" {
						w.report(task, taskstate.Stopped)
					}
				}
			case 3:
				w.state(fmt.Sprint("h", rapid.IntRange(0, 2).Draw(t, "host")), rapid.SampledFrom([]string{model.InstanceActive, model.InstanceDraining}).Draw(t, "status"))
			case 4:
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
			default:
				for _, task := range w.tasks("web") {
					if rapid.Bool().Draw(t, "moves") {
						w.run(task)
					}
				}
			}
			w.checked(t, rapid.Bool().Draw(t, "stale"))
		}
		for i := range 3 {
			w.state(fmt.Sprint("h", i), model.InstanceActive)
		}
		w.settle(func() { w.checked(t, false) })
		if got := w.counts("web"); got[fmt.Sprint(definition)] != int(count) || len(got) > 1 || len(w.tasks("web")) != int(count) {
			t.Fatalf("%v run, want %d of %d", got, count, definition)
		}
		w.now = w.now.Add(time.Hour)
		if w.step() {
			t.Fatalf("a settled service is not left alone: %v", w.last)
		}
	})
}

// checked steps, with a plan made before the last step if it is stale, and checks
// what the step did.
func (w *world) checked(t *rapid.T, stale bool) {
	svc, _ := w.s.Service("c", "web")
	d := svc.Record.GetService()
	least, most := bounds(d.GetDeploymentConfiguration(), int(d.GetDesiredCount()), 100, 200)
	before := w.up()
	plan := Plan(w.s, w.now, w.cfg)
	if stale {
		plan = w.last
	}
	w.last = plan
	for _, b := range plan.Batches {
		w.write(b)
	}
	healthy, stopped, alive := w.census(before)
	if stopped > 0 && healthy < least {
		t.Fatalf("%d healthy tasks were stopped, %d are left, %d at least", stopped, healthy, least)
	}
	if alive > len(before) && alive > most {
		t.Fatalf("tasks went to %d, %d at most", alive, most)
	}
}

// up are the service's tasks that are RUNNING or on the way there, by id, and
// whether they are wanted.
func (w *world) up() map[string]bool {
	up := map[string]bool{}
	for _, t := range w.tasks("web") {
		if t.LastStatus() <= taskstate.Running {
			up[t.Record.GetId()] = t.DesiredStatus() == taskstate.Running
		}
	}
	return up
}

// census counts the service's tasks that are wanted and healthy, healthy ones
// that were wanted before and are no more, and those that are RUNNING or on the
// way there.
func (w *world) census(before map[string]bool) (healthy, stopped, alive int) {
	svc, _ := w.s.Service("c", "web")
	work := newWork(w.s, svc, w.now, w.cfg)
	for _, m := range work.members() {
		switch {
		case m.healthy && m.wanted:
			healthy++
		case m.healthy && before[m.Record.GetId()]:
			stopped++
		}
		if m.LastStatus() <= taskstate.Running {
			alive++
		}
	}
	return healthy, stopped, alive
}

// settled is n services of four tasks each that are as they are to be, and
// stopped tasks of each besides.
func settled(b *testing.B, n, stopped int) *world {
	w := newWorld(b)
	for i := range n {
		w.service(fmt.Sprintf("web%05d", i), 1, 1, desired(4))
	}
	w.settle(nil)
	for i := range n {
		name := fmt.Sprintf("web%05d", i)
		like := w.tasks(name)[0]
		var changes []model.Change
		for j := range stopped {
			r, s := proto.CloneOf(like.Record), proto.CloneOf(like.Status)
			r.Id = fmt.Sprintf("%05d%027d", i, j)
			r.Task.DesiredStatus, s.LastStatus, s.StoppedAt = "STOPPED", "STOPPED", s.GetStartedAt()
			changes = append(changes, model.Change{Key: model.Key{Kind: model.KindTask, Cluster: "c", ID: r.GetId()}, Value: r, Revision: 9},
				model.Change{Key: model.Key{Kind: model.KindTaskStatus, Cluster: "c", ID: r.GetId()}, Value: s, Revision: 9})
		}
		w.s = w.s.With(w.s.Revision+1, changes)
	}
	return w
}

// BenchmarkPlan: one operation looks at services of which nothing changed.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			w := settled(b, n, 0)
			b.ReportAllocs()
			for b.Loop() {
				if p := Plan(w.s, w.now, w.cfg); len(p.Batches) > 0 {
					b.Fatal(p)
				}
			}
		})
	}
	b.Run("services=1000/stopped=50", func(b *testing.B) {
		w := settled(b, 1000, 50)
		b.ReportAllocs()
		for b.Loop() {
			Plan(w.s, w.now, w.cfg)
		}
	})
}
