package reconcile

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// world is a store, and hosts that do what they are told, in memory.
type world struct {
	t     fataler
	s     *model.Snapshot
	now   time.Time
	cfg   Config
	last  model.Plan
	fails func(*model.Task) bool // tasks that stop where they would run; nil: none
	hosts int                    // tasks without a host are bound round about
	bound int
}

// fataler is a test, rapid's too.
type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func newWorld(t fataler) *world {
	w := &world{t: t, s: new(model.Snapshot), now: time.Unix(1_000_000, 0), cfg: Config{ProvingTime: time.Second}, hosts: 3}
	w.put(model.KindReplica, "", "r", &pb.ReplicaRecord{Id: "r"})
	for i := range w.hosts {
		w.host(fmt.Sprint("h", i))
	}
	for i := 1; i <= 4; i++ {
		w.put(model.KindDefinition, "", fmt.Sprint("web:", i), &pb.TaskDefinitionRecord{TaskDefinition: &pb.TaskDefinition{
			Family: "web", Revision: int32(i), ContainerDefinitions: []*pb.ContainerDefinition{{Name: "web", Cpu: 10, Memory: proto.Int32(16)}}}})
	}
	return w
}

func (w *world) put(kind model.Kind, cluster, id string, v proto.Message) {
	w.write(model.Batch{{Key: model.Key{Kind: kind, Cluster: cluster, ID: id}, Value: v, If: model.AnyRevision}})
}

func (w *world) host(id string) {
	w.put(model.KindInstance, "c", id, &pb.ContainerInstanceRecord{Cluster: "c", Id: id, Instance: &pb.ContainerInstance{ContainerInstanceArn: "arn:" + id}})
	w.put(model.KindSession, "c", id, &pb.SessionRecord{Replica: "r", Connected: true})
}

func (w *world) state(id, status string) {
	w.put(model.KindInstanceState, "c", id, &pb.ContainerInstanceStateRecord{Cluster: "c", Instance: id, Status: status})
}

// write applies a batch if what it expects is so.
func (w *world) write(b model.Batch) bool {
	rev := w.s.Revision + 1
	var changes []model.Change
	for _, write := range b {
		if write.If != model.AnyRevision && w.revision(write.Key) != write.If {
			return false
		}
		changes = append(changes, model.Change{Key: write.Key, Value: write.Value, Revision: rev})
	}
	w.s = w.s.With(rev, changes)
	return true
}

func (w *world) revision(k model.Key) int64 {
	switch k.Kind {
	case model.KindTask:
		if t, ok := w.s.Task(k.Cluster, k.ID); ok {
			return t.RecordRevision
		}
	case model.KindServiceStatus:
		if svc, ok := w.s.Service(k.Cluster, k.ID); ok {
			return svc.StatusRevision
		}
	default:
		w.t.Fatalf("reconcile writes %s", k)
	}
	return 0
}

// service stores a service; its deployment's id is made from the definition and
// n.
func (w *world) service(name string, definition, n int, change func(*pb.Service)) {
	s := &pb.Service{
		ServiceName: name, ServiceArn: "arn:aws:ecs:r:1:service/c/" + name, ClusterArn: "arn:aws:ecs:r:1:cluster/c", Status: "ACTIVE",
		DesiredCount: 3, TaskDefinition: fmt.Sprint("arn:aws:ecs:r:1:task-definition/web:", definition), CreatedAt: timestamppb.New(time.Unix(5, 0)),
	}
	if old, ok := w.s.Service("c", name); ok {
		s = proto.CloneOf(old.Record.GetService())
		s.TaskDefinition = fmt.Sprint("arn:aws:ecs:r:1:task-definition/web:", definition)
	}
	if change != nil {
		change(s)
	}
	w.put(model.KindService, "c", name, &pb.ServiceRecord{Service: s, DeploymentId: fmt.Sprintf("ecs-svc/%d%d", definition, n), DeploymentCreatedAt: timestamppb.New(w.now)})
}

// step plans once and applies the plan; it answers whether anything was written.
func (w *world) step() bool {
	w.last = Plan(w.s, w.now, w.cfg)
	wrote := false
	for _, b := range w.last.Batches {
		wrote = w.write(b) || wrote
	}
	return wrote
}

// run has every task take one step on its host.
func (w *world) run(t *model.Task) {
	stop := t.DesiredStatus() == taskstate.Stopped
	switch {
	case t.Stopped():
	case t.Record.GetInstance() == "":
		r := proto.CloneOf(t.Record)
		w.bound++
		r.Instance = fmt.Sprint("h", w.bound%w.hosts)
		w.write(model.Batch{{Key: t.Key(), Value: r, If: t.RecordRevision}})
	case stop:
		w.report(t, taskstate.Stopped)
	case w.fails != nil && w.fails(t):
		w.report(t, taskstate.Stopped)
		if t, ok := w.s.Task("c", t.Record.GetId()); ok {
			r := proto.CloneOf(t.Status)
			r.StopCode, r.StoppedReason = pb.TaskStopCode_TASK_STOP_CODE_ESSENTIAL_CONTAINER_EXITED, "Essential container in task exited"
			r.Containers = []*pb.Container{{Name: "app", ExitCode: proto.Int32(3)}}
			w.put(model.KindTaskStatus, "c", r.GetTask(), r)
		}
	case t.LastStatus().Starting():
		w.report(t, taskstate.Running)
	}
}

// report has the host say where the task is.
func (w *world) report(t *model.Task, status taskstate.Status) {
	r := &pb.TaskStatusRecord{Cluster: "c", Task: t.Record.GetId()}
	if t.Status != nil {
		r = proto.CloneOf(t.Status)
	}
	r.LastStatus = status.String()
	switch status {
	case taskstate.Running:
		r.StartedAt = timestamppb.New(w.now)
	case taskstate.Stopped:
		r.StoppedAt = timestamppb.New(w.now)
	}
	w.put(model.KindTaskStatus, "c", t.Record.GetId(), r)
}

func (w *world) tasks(service string) (alive []*model.Task) {
	for t := range w.s.TasksOfService("c", service) {
		if !t.Stopped() {
			alive = append(alive, t)
		}
	}
	return alive
}

// settle steps, and runs every task, until nothing changes and nothing is
// waited for; time passes where only time helps. seen is called after each step.
func (w *world) settle(seen func()) {
	w.t.Helper()
	for range 500 {
		before := w.s.Revision
		for w.step() {
			if seen != nil {
				seen()
			}
		}
		for _, t := range slices.Collect(w.s.Tasks("c")) {
			w.run(t)
		}
		switch {
		case w.s.Revision != before:
			w.now = w.now.Add(100 * time.Millisecond)
		case w.last.WakeAt.After(w.now):
			w.now = w.last.WakeAt
		default:
			return
		}
	}
	w.t.Fatalf("it does not settle: events %v", w.events("web"))
}

func (w *world) status(service string) *pb.ServiceStatusRecord {
	svc, _ := w.s.Service("c", service)
	return svc.Status
}

// events are a service's, the oldest first, without the task's and deployment's
// ids.
func (w *world) events(service string) (all []string) {
	for _, e := range slices.Backward(w.status(service).GetEvents()) {
		all = append(all, ids.ReplaceAllString(e.GetMessage(), ""))
	}
	return all
}

// counts are the tasks of each definition that run and are to.
func (w *world) counts(service string) map[string]int {
	n := map[string]int{}
	for _, t := range w.tasks(service) {
		if t.LastStatus() == taskstate.Running && t.DesiredStatus() == taskstate.Running {
			d := t.Record.GetTask().GetTaskDefinitionArn()
			n[d[len(d)-1:]]++
		}
	}
	return n
}
