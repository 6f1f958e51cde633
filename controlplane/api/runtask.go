package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/api/validate"
	"github.com/plimsoll-project/plimsoll/controlplane/decide/resources"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// maxCount is how many tasks one RunTask may start.
const maxCount = 10

// RunTask places tasks and starts them. Under a clientToken that was used
// before it answers the tasks that were started then.
func (a *API) RunTask(ctx context.Context, r *pb.RunTaskRequest) (*pb.RunTaskResponse, error) {
	if err := invalid(validate.RunTask(r)); err != nil {
		return nil, err
	}
	snap := a.cfg.Store.Snapshot()
	template, err := a.template(snap, r.GetCluster(), r)
	if err != nil {
		return nil, err
	}
	template.PlacementConstraints, template.PlacementStrategy = r.GetPlacementConstraints(), r.GetPlacementStrategy()
	template.ClientToken = r.GetClientToken()
	count := 1
	if r.Count != nil {
		count = int(r.GetCount())
	}
	if before, err := earlier(snap, template, count); err != nil || len(before) > 0 {
		return &pb.RunTaskResponse{Tasks: a.started(before)}, err
	}
	tasks := make([]*pb.TaskRecord, count)
	for i := range tasks {
		id := newID()
		if template.GetClientToken() != "" {
			id = tokenID(template, i)
		}
		tasks[i] = a.instantiate(template, id)
	}
	placed, failures, err := a.cfg.Scheduler.RunTasks(ctx, tasks)
	if err != nil {
		return nil, a.failed(ctx, "run task definition "+r.GetTaskDefinition(), err)
	}
	return &pb.RunTaskResponse{Tasks: a.started(placed), Failures: failures}, nil
}

// earlier is the tasks that the template's clientToken started before, none if
// it has no token or the token is new.
func earlier(snap *model.Snapshot, template *pb.TaskRecord, count int) ([]*pb.TaskRecord, error) {
	if template.GetClientToken() == "" {
		return nil, nil
	}
	var tasks []*pb.TaskRecord
	for i := range maxCount {
		t, ok := snap.Task(template.GetCluster(), tokenID(template, i))
		if !ok {
			continue
		}
		if i >= count || !sameRequest(t.Record, template) {
			return nil, apierror.New(apierror.Conflict, "clientToken %q was used for another request: use a new one", template.GetClientToken())
		}
		tasks = append(tasks, t.Record)
	}
	return tasks, nil
}

// sameRequest says whether a task comes of the same request as the template.
func sameRequest(t, template *pb.TaskRecord) bool {
	a, b := t.GetTask(), template.GetTask()
	return a.GetTaskDefinitionArn() == b.GetTaskDefinitionArn() && a.GetGroup() == b.GetGroup() &&
		a.GetStartedBy() == b.GetStartedBy() && proto.Equal(a.GetOverrides(), b.GetOverrides())
}

// tokenID is the id of the i-th task of a clientToken.
func tokenID(t *pb.TaskRecord, i int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "run-task\n%s\n%s\n%d", t.GetCluster(), t.GetClientToken(), i))
	return fmt.Sprintf("%x", sum[:16])
}

// StartTask starts a task on each of the named container instances.
func (a *API) StartTask(ctx context.Context, r *pb.StartTaskRequest) (*pb.StartTaskResponse, error) {
	if err := invalid(validate.StartTask(r)); err != nil {
		return nil, err
	}
	snap := a.cfg.Store.Snapshot()
	template, err := a.template(snap, r.GetCluster(), r)
	if err != nil {
		return nil, err
	}
	var tasks []*pb.TaskRecord
	res := &pb.StartTaskResponse{}
	for _, s := range r.GetContainerInstances() {
		instance, failure := a.instance(snap, template.GetCluster(), s)
		if failure != nil {
			res.Failures = append(res.Failures, failure)
			continue
		}
		t := a.instantiate(template, newID())
		t.Instance = instance.Record.GetId()
		t.Task.ContainerInstanceArn = instance.Record.GetInstance().GetContainerInstanceArn()
		tasks = append(tasks, t)
	}
	if len(tasks) == 0 {
		return res, nil
	}
	placed, failures, err := a.cfg.Scheduler.StartTasks(ctx, tasks)
	if err != nil {
		return nil, a.failed(ctx, "start task definition "+r.GetTaskDefinition(), err)
	}
	res.Tasks, res.Failures = a.started(placed), append(res.Failures, failures...)
	return res, nil
}

// template is the task that a RunTask or StartTask asks for, without id and
// host.
func (a *API) template(snap *model.Snapshot, clusterName string, r interface {
	GetTaskDefinition() string
	GetGroup() string
	GetStartedBy() string
	GetOverrides() *pb.TaskOverride
	GetTags() []*pb.Tag
	GetPropagateTags() pb.PropagateTags
	GetEnableEcsManagedTags() bool
}) (*pb.TaskRecord, error) {
	cluster, err := a.cluster(snap, clusterName)
	if err != nil {
		return nil, err
	}
	record, err := a.startable(snap, r.GetTaskDefinition())
	if err != nil {
		return nil, err
	}
	def := record.GetTaskDefinition()
	if err := invalid(validate.Overrides(def, r.GetOverrides())); err != nil {
		return nil, err
	}
	overrides := &pb.TaskOverride{}
	if r.GetOverrides() != nil {
		overrides = proto.CloneOf(r.GetOverrides())
	}
	group := r.GetGroup()
	if group == "" {
		group = "family:" + def.GetFamily()
	}
	var tags []*pb.Tag
	if r.GetPropagateTags() == pb.PropagateTags_PROPAGATE_TAGS_TASK_DEFINITION {
		tags = record.GetTags()
	}
	tags = merged(tags, r.GetTags())
	if r.GetEnableEcsManagedTags() {
		tags = merged(tags, []*pb.Tag{{Key: "aws:ecs:clusterName", Value: cluster}})
	}
	takes := resources.Of(def, overrides)
	return &pb.TaskRecord{
		Cluster: cluster, Resources: takes,
		Task: &pb.Task{
			ClusterArn: a.arn(arnCluster, cluster), TaskDefinitionArn: def.GetTaskDefinitionArn(),
			Group: group, StartedBy: r.GetStartedBy(), Overrides: overrides, Tags: tags,
			LaunchType: pb.LaunchType_LAUNCH_TYPE_EC2, DesiredStatus: taskstate.Running.String(),
			Cpu: strconv.FormatInt(takes.GetCpu(), 10), Memory: strconv.FormatInt(takes.GetMemory(), 10),
			CreatedAt: timestamppb.New(a.cfg.Now()),
		},
	}, nil
}

func (a *API) instantiate(template *pb.TaskRecord, id string) *pb.TaskRecord {
	t := proto.CloneOf(template)
	t.Id, t.Task.TaskArn = id, a.arn(arnTask, t.GetCluster(), id)
	return t
}

// started is the tasks as they are described, with their tags.
func (a *API) started(records []*pb.TaskRecord) []*pb.Task {
	snap := a.cfg.Store.Snapshot()
	var tasks []*pb.Task
	for _, r := range records {
		t, ok := snap.Task(r.GetCluster(), r.GetId())
		if !ok {
			t = &model.Task{Record: r}
		}
		tasks = append(tasks, taskView(snap, t, true))
	}
	return tasks
}

// merged is the tags with those of later in place of theirs of the same key.
func merged(tags, later []*pb.Tag) []*pb.Tag {
	out := slices.Clone(tags)
	for _, t := range later {
		if i := slices.IndexFunc(out, func(o *pb.Tag) bool { return o.GetKey() == t.GetKey() }); i >= 0 {
			out[i] = t
		} else {
			out = append(out, t)
		}
	}
	return out
}
