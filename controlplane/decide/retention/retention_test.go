package retention

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

const day = 24 * time.Hour

var now = time.Unix(100_000_000, 0)

func ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-d)) }

func TestPlan(t *testing.T) {
	var changes []model.Change
	put := func(kind model.Kind, cluster, id string, v proto.Message) {
		changes = append(changes, model.Change{Key: model.Key{Kind: kind, Cluster: cluster, ID: id}, Value: v, Revision: 7})
	}
	task := func(id string, stopped *timestamppb.Timestamp) {
		put(model.KindTask, "c", id, &pb.TaskRecord{Cluster: "c", Id: id, Instance: "h"})
		s := &pb.TaskStatusRecord{Cluster: "c", Task: id, LastStatus: "RUNNING"}
		if stopped != nil {
			s.LastStatus, s.StoppedAt = "STOPPED", stopped
		}
		put(model.KindTaskStatus, "c", id, s)
	}
	task("running", nil)
	task("old", ago(31*day))
	task("first", ago(3*day))
	task("second", ago(2*day))
	task("third", ago(1*day))
	put(model.KindTask, "c", "given up", &pb.TaskRecord{Cluster: "c", Id: "given up", StoppedAt: ago(31 * day)})
	put(model.KindTaskStatus, "c", "orphan", &pb.TaskStatusRecord{Cluster: "c", Task: "orphan"})
	for name, s := range map[string]*pb.ServiceStatusRecord{
		"active":  {Events: []*pb.ServiceEvent{{CreatedAt: ago(99 * day)}}},
		"deleted": {Inactive: true, Events: []*pb.ServiceEvent{{CreatedAt: ago(2 * day)}}},
		"fresh":   {Inactive: true, Events: []*pb.ServiceEvent{{CreatedAt: ago(time.Hour)}}},
		"silent":  {Inactive: true},
	} {
		s.Cluster, s.Service = "c", name
		put(model.KindService, "c", name, &pb.ServiceRecord{Service: &pb.Service{CreatedAt: ago(time.Minute)}})
		put(model.KindServiceStatus, "c", name, s)
	}
	put(model.KindJoinToken, "", "used", &pb.JoinTokenRecord{ExpiresAt: timestamppb.New(now.Add(day))})
	put(model.KindJoinToken, "", "expired", &pb.JoinTokenRecord{UsesLeft: 1, ExpiresAt: ago(time.Second)})
	put(model.KindJoinToken, "", "good", &pb.JoinTokenRecord{UsesLeft: 1, ExpiresAt: timestamppb.New(now.Add(day))})
	s := new(model.Snapshot).With(7, changes)

	removed := func(cfg Config) (keys []string) {
		p := Plan(s, now, cfg)
		if !p.WakeAt.After(now) {
			t.Errorf("wakes at %v", p.WakeAt)
		}
		for _, b := range p.Batches {
			for _, w := range b {
				if w.Value != nil || w.If != 7 {
					t.Errorf("%+v", w)
				}
				keys = append(keys, string(w.Key.Kind)+" "+w.Key.ID)
			}
		}
		slices.Sort(keys)
		return keys
	}
	always := []string{"join-tokens expired", "join-tokens used", "service-status deleted", "services deleted", "task-status orphan", "tasks given up", "tasks old"}
	if d := cmp.Diff(always, removed(Config{})); d != "" {
		t.Errorf("removed, wanted (-), got (+):\n%s", d)
	}
	few := append(slices.Clone(always), "tasks first")
	slices.Sort(few)
	if d := cmp.Diff(few, removed(Config{MaxTasks: 2})); d != "" {
		t.Errorf("removed with two at most, wanted (-), got (+):\n%s", d)
	}
}

func TestStepsAreBounded(t *testing.T) {
	var changes []model.Change
	for i := range 5000 {
		id := fmt.Sprint(i)
		changes = append(changes, model.Change{Key: model.Key{Kind: model.KindTask, Cluster: "c", ID: id}, Value: &pb.TaskRecord{Cluster: "c", Id: id, StoppedAt: ago(99 * day)}, Revision: 1})
	}
	p := Plan(new(model.Snapshot).With(1, changes), now, Config{})
	n := 0
	for _, b := range p.Batches {
		if n += len(b); len(b) > 100 {
			t.Errorf("a batch of %d", len(b))
		}
	}
	if n != batchSize*batches {
		t.Errorf("%d writes in a step", n)
	}
}
