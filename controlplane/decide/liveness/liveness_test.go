package liveness

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

var start = time.Unix(1000, 0)

func apply(s *model.Snapshot, p model.Plan) *model.Snapshot {
	var changes []model.Change
	for _, b := range p.Batches {
		for _, w := range b {
			changes = append(changes, model.Change{Key: w.Key, Value: w.Value, Revision: s.Revision + 1})
		}
	}
	return s.With(s.Revision+1, changes)
}

func put(s *model.Snapshot, kind model.Kind, cluster, id string, v proto.Message) *model.Snapshot {
	return s.With(s.Revision+1, []model.Change{{Key: model.Key{Kind: kind, Cluster: cluster, ID: id}, Value: v, Revision: s.Revision + 1}})
}

// hosts is one host with n running tasks and a stopped one.
func hosts(n int) *model.Snapshot {
	s := put(new(model.Snapshot), model.KindReplica, "", "r", &pb.ReplicaRecord{Id: "r"})
	s = put(s, model.KindInstance, "c", "h", &pb.ContainerInstanceRecord{Cluster: "c", Id: "h"})
	s = put(s, model.KindSession, "c", "h", &pb.SessionRecord{Replica: "r", Connected: true})
	for i := range n {
		s = put(s, model.KindTask, "c", fmt.Sprintf("t%03d", i), &pb.TaskRecord{Cluster: "c", Id: fmt.Sprintf("t%03d", i), Instance: "h", Task: &pb.Task{DesiredStatus: "RUNNING"}})
	}
	return put(s, model.KindTask, "c", "over", &pb.TaskRecord{Cluster: "c", Id: "over", Instance: "h", Task: &pb.Task{DesiredStatus: "STOPPED"}, StoppedAt: timestamppb.New(start)})
}

func cut(s *model.Snapshot) *model.Snapshot {
	return put(s, model.KindSession, "c", "h", &pb.SessionRecord{Replica: "r"})
}

func alive(s *model.Snapshot) (n int) {
	for t := range s.Tasks("") {
		if !t.Stopped() {
			n++
		}
	}
	return n
}

func TestConnectedHostIsLeftAlone(t *testing.T) {
	if d := cmp.Diff(model.Plan{}, Plan(hosts(1), start, Config{})); d != "" {
		t.Fatal(d)
	}
}

func TestHostIsLostAfterTheTimeoutAndNotBefore(t *testing.T) {
	s := cut(hosts(200))
	p := Plan(s, start, Config{})
	if !p.WakeAt.Equal(start.Add(DefaultLossTimeout)) || len(p.Batches) != 1 {
		t.Fatalf("%+v", p)
	}
	s = apply(s, p)
	if p = Plan(s, start.Add(14*time.Second), Config{}); len(p.Batches) != 0 || !p.WakeAt.Equal(start.Add(15*time.Second)) {
		t.Fatalf("before the timeout: %+v", p)
	}
	for range 3 {
		s = apply(s, Plan(s, start.Add(15*time.Second), Config{}))
	}
	i, _ := s.Instance("c", "h")
	if alive(s) != 0 || !i.Liveness.GetLost() {
		t.Fatalf("%d tasks are alive; %v", alive(s), i.Liveness)
	}
	task, _ := s.Task("c", "t000")
	if got := task.Record; got.GetStoppedReason() != "Host lost: container instance h unreachable for 15 s" || got.GetTask().GetDesiredStatus() != "STOPPED" {
		t.Fatalf("%v", got)
	}
	if p = Plan(s, start.Add(time.Hour), Config{}); len(p.Batches) != 0 {
		t.Fatalf("a lost host is lost again: %+v", p)
	}
	s = put(s, model.KindSession, "c", "h", &pb.SessionRecord{Replica: "r", Connected: true})
	s = apply(s, Plan(s, start.Add(time.Hour), Config{}))
	if i, _ = s.Instance("c", "h"); i.Liveness != nil {
		t.Fatalf("it is back, and %v", i.Liveness)
	}
}

func TestNewLeaderJudgesNobodyByTheTimeBefore(t *testing.T) {
	s := cut(hosts(1))
	s = apply(s, Plan(s, start, Config{}))
	term := start.Add(time.Hour)
	if p := Plan(s, term.Add(time.Second), Config{TermStartedAt: term}); len(p.Batches) != 0 || !p.WakeAt.Equal(term.Add(DefaultLossTimeout)) {
		t.Fatalf("%+v", p)
	}
}

func TestReplicaThatIsGoneDisconnectsItsHosts(t *testing.T) {
	s := put(hosts(1), model.KindReplica, "", "r", nil)
	if p := Plan(s, start, Config{}); len(p.Batches) != 1 {
		t.Fatalf("%+v", p)
	}
}

func TestDeregisteredHostLosesItsTasksAtOnce(t *testing.T) {
	s := put(hosts(2), model.KindInstanceState, "c", "h", &pb.ContainerInstanceStateRecord{Cluster: "c", Instance: "h", Status: model.InstanceInactive})
	s = apply(s, Plan(s, start, Config{}))
	if alive(s) != 0 || len(Plan(s, start, Config{}).Batches) != 0 {
		t.Fatalf("%d tasks are alive", alive(s))
	}
}

func TestStoppingTaskKeepsItsReason(t *testing.T) {
	s := put(cut(hosts(0)), model.KindTask, "c", "t", &pb.TaskRecord{Cluster: "c", Id: "t", Instance: "h", StoppedReason: "asked", Task: &pb.Task{DesiredStatus: "STOPPED"}})
	s = apply(s, Plan(s, start, Config{}))
	s = apply(s, Plan(s, start.Add(time.Minute), Config{}))
	if task, _ := s.Task("c", "t"); !task.Stopped() || task.Record.GetStoppedReason() != "asked" {
		t.Fatalf("%v", task.Record)
	}
}
