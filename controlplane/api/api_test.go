package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/api"
	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	"github.com/plimsoll-project/plimsoll/controlplane/store/memory"
	"github.com/plimsoll-project/plimsoll/proto/ecsjson"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

const prefix = "arn:aws:ecs:eu-test-1:111122223333:"

// rig is an API over a store in memory, with the cluster "default", and what
// the other writers would write.
type rig struct {
	*api.API
	t         *testing.T
	ctx       context.Context
	store     *memory.Store
	now       time.Time
	scheduler *placer
	notLeader error
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, ctx: t.Context(), store: memory.New(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	r.scheduler = &placer{store: r.store}
	r.API = api.New(api.Config{
		Store: r.store, Scheduler: r.scheduler, Fences: func() ([]store.Fence, error) { return nil, r.notLeader },
		AccountID: "111122223333", Region: "eu-test-1", Now: func() time.Time { return r.now }, Logger: slog.New(slog.DiscardHandler),
	})
	must(r.CreateCluster(r.ctx, &pb.CreateClusterRequest{}))
	return r
}

// must is the answer of a call that does not fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// read makes a request from ECS's JSON.
func read[T proto.Message](t *testing.T, in string, m T) T {
	t.Helper()
	if err := ecsjson.Unmarshal([]byte(in), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// refused expects the exception, and a message of one line that has the text.
func refused(t *testing.T, err error, e apierror.Exception, text string) {
	t.Helper()
	if got := apierror.Of(err); got != e {
		t.Fatalf("got %q (%v), want %s", got, err, e)
	}
	if m := status.Convert(err).Message(); !strings.Contains(m, text) || strings.Contains(m, "\n") {
		t.Fatalf("message %q, want one line with %q", m, text)
	}
}

func (r *rig) put(kind model.Kind, id string, v proto.Message) {
	r.t.Helper()
	rev := must(r.store.Commit(r.ctx, model.Batch{{Key: model.Key{Kind: kind, Cluster: "default", ID: id}, Value: v, If: model.AnyRevision}}))
	must(r.store.After(r.ctx, rev))
}

// host registers a connected container instance with 1024 units and 1024 MiB.
func (r *rig) host(id string) string {
	arn := prefix + "container-instance/default/" + id
	rev := must(r.store.Commit(r.ctx, model.Batch{{Key: model.Key{Kind: model.KindReplica, ID: "replica"}, Value: &pb.ReplicaRecord{Id: "replica"}, If: model.AnyRevision}}))
	must(r.store.After(r.ctx, rev))
	r.put(model.KindInstance, id, &pb.ContainerInstanceRecord{Cluster: "default", Id: id, Instance: &pb.ContainerInstance{
		ContainerInstanceArn: arn, Ec2InstanceId: "host-" + id, RegisteredAt: timestamppb.New(r.now),
		Attributes: []*pb.Attribute{{Name: "ecs.os-type", Value: "linux"}, {Name: "ecs.availability-zone", Value: "zone-a"}},
		RegisteredResources: []*pb.Resource{
			{Name: "CPU", Type: "INTEGER", IntegerValue: 1024}, {Name: "MEMORY", Type: "INTEGER", IntegerValue: 1024},
			{Name: "PORTS", Type: "STRINGSET", StringSetValue: []string{"22"}}, {Name: "PORTS_UDP", Type: "STRINGSET"},
		},
	}})
	r.put(model.KindSession, id, &pb.SessionRecord{Cluster: "default", Instance: id, Replica: "replica", Epoch: 1, Connected: true, ChangedAt: timestamppb.New(r.now)})
	return arn
}

// register registers a task definition of one container.
func (r *rig) register(family string) *pb.TaskDefinition {
	return must(r.RegisterTaskDefinition(r.ctx, read(r.t, `{"family":"`+family+`","containerDefinitions":[{"name":"app","image":"app:1","cpu":100,"memory":128,
		"portMappings":[{"containerPort":80,"hostPort":8080}]}],"tags":[{"key":"from","value":"definition"}]}`, &pb.RegisterTaskDefinitionRequest{}))).GetTaskDefinition()
}

// serviceTask stores a task of a service's deployment, with the status if there
// is one.
func (r *rig) serviceTask(id, service, deployment, status string) {
	r.put(model.KindTask, id, &pb.TaskRecord{Cluster: "default", Id: id, Service: service, DeploymentId: deployment, Task: &pb.Task{
		TaskArn: prefix + "task/default/" + id, ClusterArn: prefix + "cluster/default", Group: "service:" + service,
		TaskDefinitionArn: prefix + "task-definition/web:1", DesiredStatus: "RUNNING", StartedBy: deployment, LaunchType: pb.LaunchType_LAUNCH_TYPE_EC2,
	}})
	if status != "" {
		r.report(id, status)
	}
}

// report writes what a host observed of a task.
func (r *rig) report(id, status string) {
	r.put(model.KindTaskStatus, id, &pb.TaskStatusRecord{Cluster: "default", Task: id, LastStatus: status})
}

// placer is a scheduler that puts every task on the first instance that is
// there.
type placer struct {
	store *memory.Store
	err   error
}

func (p *placer) RunTasks(ctx context.Context, tasks []*pb.TaskRecord) ([]*pb.TaskRecord, []*pb.Failure, error) {
	for i := range p.store.Snapshot().Instances("default") {
		for _, t := range tasks {
			t.Instance, t.Task.ContainerInstanceArn = i.Record.GetId(), i.Record.GetInstance().GetContainerInstanceArn()
		}
		return p.StartTasks(ctx, tasks)
	}
	return nil, []*pb.Failure{{Reason: "RESOURCE:MEMORY"}}, p.err
}

func (p *placer) StartTasks(ctx context.Context, tasks []*pb.TaskRecord) ([]*pb.TaskRecord, []*pb.Failure, error) {
	if p.err != nil {
		return nil, nil, p.err
	}
	var batch model.Batch
	for _, t := range tasks {
		if t.GetTask().GetDesiredStatus() != taskstate.Running.String() || t.GetInstance() == "" {
			return nil, nil, fmt.Errorf("task %s is not complete", t.GetId())
		}
		batch = append(batch, model.Write{Key: model.Key{Kind: model.KindTask, Cluster: t.GetCluster(), ID: t.GetId()}, Value: t})
	}
	rev, err := p.store.Commit(ctx, batch)
	if err == nil {
		_, err = p.store.After(ctx, rev)
	}
	return tasks, nil, err
}
