package placement

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/decide/query"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// world builds snapshots.
type world struct{ changes []model.Change }

func newWorld() *world {
	return (&world{}).put(model.KindReplica, "", "r", &pb.ReplicaRecord{Id: "r"})
}

func (w *world) put(kind model.Kind, cluster, id string, v proto.Message) *world {
	w.changes = append(w.changes, model.Change{Key: model.Key{Kind: kind, Cluster: cluster, ID: id}, Value: v, Revision: 1})
	return w
}

// host adds a connected host; attributes are NAME=VALUE.
func (w *world) host(id string, cpu, mem int32, attributes ...string) *world {
	i := &pb.ContainerInstance{ContainerInstanceArn: "arn:" + id, RegisteredResources: []*pb.Resource{
		{Name: "CPU", IntegerValue: cpu}, {Name: "MEMORY", IntegerValue: mem}, {Name: "PORTS", StringSetValue: []string{"22", "2376"}}}}
	for _, a := range attributes {
		name, value, _ := strings.Cut(a, "=")
		i.Attributes = append(i.Attributes, &pb.Attribute{Name: name, Value: value})
	}
	w.put(model.KindInstance, "c", id, &pb.ContainerInstanceRecord{Cluster: "c", Id: id, Instance: i})
	return w.put(model.KindSession, "c", id, &pb.SessionRecord{Replica: "r", Connected: true})
}

func (w *world) state(id, status string) *world {
	return w.put(model.KindInstanceState, "c", id, &pb.ContainerInstanceStateRecord{Cluster: "c", Instance: id, Status: status})
}

func (w *world) task(r *pb.TaskRecord) *world { return w.put(model.KindTask, "c", r.GetId(), r) }

func (w *world) snapshot() *model.Snapshot { return new(model.Snapshot).With(1, w.changes) }

type option func(*pb.TaskRecord)

func task(id string, cpu, mem int64, options ...option) *pb.TaskRecord {
	r := &pb.TaskRecord{Cluster: "c", Id: id, Service: "web", Resources: &pb.TaskResources{Cpu: cpu, Memory: mem},
		Task: &pb.Task{Group: "service:web", DesiredStatus: "RUNNING", TaskDefinitionArn: "arn:x/web:1"}}
	for _, o := range options {
		o(r)
	}
	return r
}

func on(host string) option { return func(r *pb.TaskRecord) { r.Instance = host } }

func port(n int32) option {
	return func(r *pb.TaskRecord) { r.Resources.HostPorts = append(r.Resources.HostPorts, &pb.HostPort{Port: n}) }
}

func group(name string) option {
	return func(r *pb.TaskRecord) { r.Service, r.Task.Group = "", name }
}

func member(expression string) option {
	return func(r *pb.TaskRecord) {
		r.PlacementConstraints = append(r.PlacementConstraints, &pb.PlacementConstraint{
			Type: pb.PlacementConstraintType_PLACEMENT_CONSTRAINT_TYPE_MEMBER_OF, Expression: expression})
	}
}

func distinct(r *pb.TaskRecord) {
	r.PlacementConstraints = append(r.PlacementConstraints, &pb.PlacementConstraint{
		Type: pb.PlacementConstraintType_PLACEMENT_CONSTRAINT_TYPE_DISTINCT_INSTANCE})
}

const (
	spreadType  = pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_SPREAD
	binpackType = pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_BINPACK
	randomType  = pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_RANDOM
)

func strategy(kind pb.PlacementStrategyType, field string) option {
	return func(r *pb.TaskRecord) {
		r.PlacementStrategy = append(r.PlacementStrategy, &pb.PlacementStrategy{Type: kind, Field: field})
	}
}

func some(n int, cpu, mem int64, options ...option) (all []*model.Task) {
	for i := range n {
		all = append(all, &model.Task{Record: task(fmt.Sprint("new", i), cpu, mem, options...)})
	}
	return all
}

func hosts(r Result) (ids []string) {
	for _, b := range r.Bindings {
		ids = append(ids, b.Instance)
	}
	return ids
}

func TestPlan(t *testing.T) {
	zones := func() *world {
		return newWorld().host("a1", 1000, 1000, "ecs.availability-zone=a").host("a2", 1000, 1000, "ecs.availability-zone=a").
			host("b1", 1000, 1000, "ecs.availability-zone=b")
	}
	for name, c := range map[string]struct {
		in      *world
		pending []*model.Task
		want    string // hosts in order, separated by spaces
		fails   string // the first failure's reason
	}{
		"three hosts, three tasks": {newWorld().host("x", 1000, 1000).host("y", 1000, 1000).host("z", 1000, 1000), some(3, 1, 1), "x y z", ""},
		"zones before hosts":       {zones(), some(4, 1, 1), "a1 b1 a2 b1", ""},
		"full hosts of a zone count": {newWorld().host("a1", 10, 10, "ecs.availability-zone=a").host("a2", 1000, 1000, "ecs.availability-zone=a").
			host("b1", 1000, 1000, "ecs.availability-zone=b").task(task("o", 10, 10, on("a1"))), some(2, 1, 1), "b1 a2", ""},
		"binpack memory": {newWorld().host("x", 1000, 900).host("y", 1000, 500), some(3, 1, 250, strategy(binpackType, "memory")), "y y x", ""},
		"binpack cpu":    {newWorld().host("x", 1000, 900).host("y", 300, 900), some(2, 200, 1, strategy(binpackType, "CPU")), "y x", ""},
		"spread, then binpack": {newWorld().host("a", 1000, 900, "rack=1").host("b", 1000, 500, "rack=1").host("c", 1000, 999, "rack=2"),
			some(4, 1, 10, strategy(spreadType, "attribute:rack"), strategy(binpackType, "memory")), "b c b c", ""},
		"spread by host, then binpack": {newWorld().host("a", 1000, 900).host("b", 1000, 500),
			some(3, 1, 10, strategy(spreadType, "instanceId"), strategy(binpackType, "memory")), "b a b", ""},
		"distinct instances":  {newWorld().host("x", 1000, 1000).host("y", 1000, 1000).task(task("o", 1, 1, on("x"))), some(2, 1, 1, distinct), "y", "DISTINCT_INSTANCE"},
		"memory runs out":     {newWorld().host("x", 1000, 512), some(3, 1, 200), "x x", "RESOURCE:MEMORY"},
		"cpu runs out":        {newWorld().host("x", 300, 512), some(2, 200, 1), "x", "RESOURCE:CPU"},
		"gpus":                {newWorld().host("x", 300, 512), some(1, 1, 1, func(r *pb.TaskRecord) { r.Resources.Gpus = 1 }), "", "RESOURCE:GPU"},
		"a port in use":       {newWorld().host("x", 1000, 1000).host("y", 1000, 1000).task(task("o", 1, 1, on("x"), port(80))), some(2, 1, 1, port(80)), "y", "RESOURCE:PORTS"},
		"a reserved port":     {newWorld().host("x", 1000, 1000), some(1, 1, 1, port(22)), "", "RESOURCE:PORTS"},
		"an attribute":        {zones(), some(2, 1, 1, member("attribute:ecs.availability-zone == b")), "b1 b1", ""},
		"no such attribute":   {zones(), some(1, 1, 1, member("attribute:ssd exists")), "", "ATTRIBUTE"},
		"a broken expression": {zones(), some(1, 1, 1, member("attribute:")), "", "ATTRIBUTE"},
		"away from others placed in the plan": {newWorld().host("x", 1000, 1000).host("y", 1000, 1000),
			append(some(1, 1, 1, group("db")), some(2, 1, 1, group("app"), member("not (task:group == db)"))...), "x y y", ""},
		"few tasks a host": {newWorld().host("x", 1000, 1000), some(3, 1, 1, member("runningTasksCount < 2")), "x x", "ATTRIBUTE"},
		"draining":         {newWorld().host("x", 1000, 1000).state("x", "DRAINING"), some(1, 1, 1), "", "DRAINING"},
		"not connected":    {newWorld().host("x", 1000, 1000).put(model.KindSession, "c", "x", &pb.SessionRecord{Replica: "gone", Connected: true}), some(1, 1, 1), "", "AGENT"},
		"lost":             {newWorld().host("x", 1000, 1000).put(model.KindLiveness, "c", "x", &pb.InstanceLivenessRecord{Lost: true}), some(1, 1, 1), "", "AGENT"},
		"without a runtime": {newWorld().put(model.KindInstance, "c", "x", &pb.ContainerInstanceRecord{Cluster: "c", Id: "x", Instance: &pb.ContainerInstance{
			HealthStatus: &pb.ContainerInstanceHealthStatus{OverallStatus: pb.InstanceHealthCheckState_INSTANCE_HEALTH_CHECK_STATE_IMPAIRED}}}).
			put(model.KindSession, "c", "x", &pb.SessionRecord{Replica: "r", Connected: true}), some(1, 1, 1), "", "CONTAINER_RUNTIME"},
		"no hosts": {newWorld(), some(1, 1, 1), "", "EMPTY"},
		"a custom attribute": {newWorld().host("x", 9, 9).put(model.KindInstanceState, "c", "x", &pb.ContainerInstanceStateRecord{
			Attributes: []*pb.Attribute{{Name: "stack", Value: "prod"}}}), some(1, 1, 1, member("attribute:stack == prod")), "x", ""},
		"the definition's constraint": {zones().put(model.KindDefinition, "", "web:1", &pb.TaskDefinitionRecord{TaskDefinition: &pb.TaskDefinition{
			PlacementConstraints: []*pb.TaskDefinitionPlacementConstraint{{Expression: "attribute:ecs.availability-zone == b"}}}}), some(1, 1, 1), "b1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := Plan(c.in.snapshot(), c.pending, Config{})
			if d := cmp.Diff(c.want, strings.Join(hosts(r), " ")); d != "" {
				t.Errorf("hosts wanted (-), got (+):\n%s", d)
			}
			fails := ""
			if len(r.Failures) > 0 {
				fails = r.Failures[0].Reason
			}
			if fails != c.fails || len(r.Bindings)+len(r.Failures) != len(c.pending) {
				t.Errorf("failures %+v, want %q", r.Failures, c.fails)
			}
		})
	}
}

func TestRandomUsesEveryHostAndItsSeed(t *testing.T) {
	w := newWorld()
	for i := range 10 {
		w.host(fmt.Sprint("h", i), 10000, 10000)
	}
	s, pending := w.snapshot(), some(1000, 1, 1, strategy(randomType, ""))
	first := hosts(Plan(s, pending, Config{Seed: 1}))
	times := map[string]int{}
	for _, h := range first {
		times[h]++
	}
	for h, n := range times {
		if n < 60 || n > 150 {
			t.Errorf("%s has %d of 1000 tasks on 10 hosts", h, n)
		}
	}
	if d := cmp.Diff(first, hosts(Plan(s, pending, Config{Seed: 1}))); d != "" || len(times) != 10 {
		t.Errorf("the same seed on %d hosts:\n%s", len(times), d)
	}
	if cmp.Equal(first, hosts(Plan(s, pending, Config{Seed: 2}))) {
		t.Error("another seed changed nothing")
	}
}

func TestExplanationsCountTheReasons(t *testing.T) {
	s := newWorld().host("x", 1000, 448).host("y", 1000, 300).host("z", 1000, 9000, "ssd=yes").state("z", "DRAINING").
		host("o", 1000, 9000).put(model.KindSession, "c", "o", &pb.SessionRecord{}).snapshot()
	r := Plan(s, some(1, 1, 512), Config{})
	want := "RESOURCE:MEMORY on 2, AGENT on 1, DRAINING on 1; needs 512 MiB, the most free is 448 on x"
	if len(r.Failures) != 1 || r.Failures[0].Detail != want {
		t.Fatalf("%+v, want %s", r.Failures, want)
	}
}

func TestCheck(t *testing.T) {
	s := newWorld().host("x", 100, 100).task(task("o", 1, 1, on("x"), port(80))).snapshot()
	for name, c := range map[string]struct {
		task *pb.TaskRecord
		host string
		want string
	}{
		"fits":     {task("n", 1, 1), "x", ""},
		"missing":  {task("n", 1, 1), "y", "MISSING"},
		"memory":   {task("n", 1, 100), "x", "RESOURCE:MEMORY"},
		"port":     {task("n", 1, 1, port(80)), "x", "RESOURCE:PORTS"},
		"distinct": {task("n", 1, 1, distinct), "x", "DISTINCT_INSTANCE"},
		"broken":   {task("n", 1, 1, member("?")), "x", "ATTRIBUTE"},
	} {
		got := ""
		if f := Check(s, &model.Task{Record: c.task}, c.host); f != nil {
			got = f.Reason
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestMatches(t *testing.T) {
	s := newWorld().host("x", 1, 1, "ssd=yes").snapshot()
	i, _ := s.Instance("c", "x")
	for expression, want := range map[string]bool{"attribute:ssd == yes and agentConnected == true": true, "runningTasksCount > 0": false,
		"agentVersion exists or ec2InstanceId exists": false, "registeredAt < 2000-01-01": true} {
		e, err := query.Parse(expression)
		if err != nil {
			t.Fatal(err)
		}
		if Matches(s, i, e) != want {
			t.Errorf("%s: want %v", expression, want)
		}
	}
}

func TestWrites(t *testing.T) {
	w := newWorld().host("x", 1000, 1000)
	for i := range 120 {
		w.task(task(fmt.Sprintf("t%03d", i), 1, 1))
	}
	w.task(task("told", 1, 9999, func(r *pb.TaskRecord) {
		r.PlacementFailure = "RESOURCE:MEMORY on 1; needs 9999 MiB, the most free is 7 on x"
	}))
	w.task(task("untold", 1, 5000))
	s := w.snapshot()
	var pending []*model.Task
	for u := range s.Unbound() {
		pending = append(pending, u)
	}
	plan := Writes(s, Plan(s, pending, Config{}), time.Unix(9, 0))
	seen := map[string]*pb.TaskRecord{}
	for _, b := range plan.Batches {
		if len(b) > 100 {
			t.Errorf("a batch of %d", len(b))
		}
		for _, write := range b {
			seen[write.Key.ID] = write.Value.(*pb.TaskRecord)
			if write.If != 1 {
				t.Errorf("%s expects revision %d", write.Key, write.If)
			}
		}
	}
	if len(seen) != 121 || seen["told"] != nil || seen["untold"].GetInstance() != "" || seen["untold"].GetPlacementFailure() == "" {
		t.Fatalf("%d records written; %v", len(seen), seen["untold"])
	}
	if r := seen["t000"]; r.GetInstance() != "x" || r.GetTask().GetContainerInstanceArn() != "arn:x" {
		t.Fatalf("bound %v", r)
	}
}
