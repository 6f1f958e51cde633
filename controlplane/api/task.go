package api

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/api/validate"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// maxReason bounds a StopTask's reason, in bytes.
const maxReason = 1024

// StopTask sets a task's desired status to STOPPED.
func (a *API) StopTask(ctx context.Context, r *pb.StopTaskRequest) (*pb.StopTaskResponse, error) {
	switch {
	case r.GetTask() == "":
		return nil, apierror.New(apierror.InvalidParameter, "task: required: give an id or ARN")
	case len(r.GetReason()) > maxReason:
		return nil, apierror.New(apierror.InvalidParameter, "reason: it is longer than %d bytes: shorten it", maxReason)
	}
	what := "stop task " + r.GetTask()
	fences, err := a.cfg.Fences()
	if err != nil {
		return nil, a.failed(ctx, what, err)
	}
	var key model.Key
	snap, err := a.commit(ctx, what, func(snap *model.Snapshot) (model.Batch, error) {
		cluster, err := a.cluster(snap, r.GetCluster())
		if err != nil {
			return nil, err
		}
		t, ok := a.task(snap, cluster, r.GetTask())
		if !ok {
			return nil, apierror.New(apierror.InvalidParameter, "task %q does not exist in cluster %q", r.GetTask(), cluster)
		}
		key = t.Key()
		if t.Stopped() || t.DesiredStatus() == taskstate.Stopped {
			return nil, nil
		}
		record := proto.CloneOf(t.Record)
		record.Task.DesiredStatus = taskstate.Stopped.String()
		record.StopCode = pb.TaskStopCode_TASK_STOP_CODE_USER_INITIATED
		if record.StoppedReason = r.GetReason(); record.StoppedReason == "" {
			record.StoppedReason = "Task stopped by user"
		}
		record.StoppingAt = timestamppb.New(a.cfg.Now())
		if record.GetInstance() == "" {
			record.StoppedAt = record.StoppingAt
		}
		return model.Batch{{Key: key, Value: record, If: t.RecordRevision}}, nil
	}, fences...)
	if err != nil {
		return nil, err
	}
	t, ok := snap.Task(key.Cluster, key.ID)
	if !ok {
		return nil, apierror.New(apierror.InvalidParameter, "task %q is no longer kept", r.GetTask())
	}
	return &pb.StopTaskResponse{Task: taskView(snap, t, true)}, nil
}

// DescribeTasks describes tasks.
func (a *API) DescribeTasks(_ context.Context, r *pb.DescribeTasksRequest) (*pb.DescribeTasksResponse, error) {
	if err := atMost("tasks", len(r.GetTasks()), 100); err != nil {
		return nil, err
	}
	snap := a.cfg.Store.Snapshot()
	cluster, err := a.cluster(snap, r.GetCluster())
	if err != nil {
		return nil, err
	}
	res := &pb.DescribeTasksResponse{}
	for _, s := range r.GetTasks() {
		t, ok := a.task(snap, cluster, s)
		if !ok {
			res.Failures = append(res.Failures, a.missingIn(cluster, arnTask, s))
			continue
		}
		res.Tasks = append(res.Tasks, taskView(snap, t, slices.Contains(r.GetInclude(), pb.TaskField_TASK_FIELD_TAGS)))
	}
	return res, nil
}

// ListTasks lists tasks' ARNs; those whose desired status is RUNNING if none is
// given.
func (a *API) ListTasks(_ context.Context, r *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	if err := invalid(validate.ListTasks(r)); err != nil {
		return nil, err
	}
	snap := a.cfg.Store.Snapshot()
	cluster, err := a.cluster(snap, r.GetCluster())
	if err != nil {
		return nil, err
	}
	among := snap.Tasks(cluster)
	instance, service := "", ""
	if r.GetContainerInstance() != "" {
		i, failure := a.instance(snap, cluster, r.GetContainerInstance())
		if failure != nil {
			return nil, apierror.New(apierror.InvalidParameter, "container instance %q is not registered in cluster %q", r.GetContainerInstance(), cluster)
		}
		instance = i.Record.GetId()
		among = snap.TasksOfInstance(cluster, instance)
	}
	if r.GetServiceName() != "" {
		s, err := a.service(snap, cluster, r.GetServiceName())
		if err != nil {
			return nil, err
		}
		service = s.Record.GetService().GetServiceName()
		among = snap.TasksOfService(cluster, service)
	}
	var items []item
	for t := range among {
		task := t.Record.GetTask()
		switch {
		case !desires(t, r.GetDesiredStatus()),
			instance != "" && t.Record.GetInstance() != instance,
			service != "" && t.Record.GetService() != service,
			r.GetFamily() != "" && familyOf(task.GetTaskDefinitionArn()) != r.GetFamily(),
			r.GetStartedBy() != "" && task.GetStartedBy() != r.GetStartedBy(),
			r.GetLaunchType() != pb.LaunchType_LAUNCH_TYPE_UNSPECIFIED && task.GetLaunchType() != r.GetLaunchType():
			continue
		}
		items = append(items, item{t.Record.GetId(), task.GetTaskArn()})
	}
	arns, next, err := page("ListTasks", items, false, r.GetNextToken(), r.MaxResults)
	if err != nil {
		return nil, err
	}
	return &pb.ListTasksResponse{TaskArns: arns, NextToken: next}, nil
}

// desires says whether the task's desired status is the one asked for. No task
// has PENDING, as in ECS.
func desires(t *model.Task, want pb.DesiredStatus) bool {
	stopped := t.Stopped() || t.DesiredStatus() == taskstate.Stopped
	switch want {
	case pb.DesiredStatus_DESIRED_STATUS_STOPPED:
		return stopped
	case pb.DesiredStatus_DESIRED_STATUS_PENDING:
		return false
	}
	return !stopped
}

// task finds a task of the cluster by id or ARN.
func (a *API) task(snap *model.Snapshot, cluster, s string) (*model.Task, bool) {
	id, ok := a.within(cluster, arnTask, s)
	if !ok {
		return nil, false
	}
	return snap.Task(cluster, id)
}

// taskView is a task as it is described. Until its host reports containers they
// are those of the task definition.
func taskView(snap *model.Snapshot, t *model.Task, tags bool) *pb.Task {
	v := t.View()
	if !tags {
		v.Tags = nil
	}
	if v.GetHealthStatus() == pb.HealthStatus_HEALTH_STATUS_UNSPECIFIED {
		v.HealthStatus = pb.HealthStatus_HEALTH_STATUS_UNKNOWN
	}
	if i, ok := snap.Instance(t.Record.GetCluster(), t.Record.GetInstance()); ok {
		v.Connectivity = pb.Connectivity_CONNECTIVITY_DISCONNECTED
		if snap.Connected(i) {
			v.Connectivity = pb.Connectivity_CONNECTIVITY_CONNECTED
		}
		v.ConnectivityAt = i.Session.GetChangedAt()
		for _, attr := range i.Attributes() {
			if attr.GetName() == "ecs.availability-zone" {
				v.AvailabilityZone = attr.GetValue()
			}
		}
	}
	if len(v.GetContainers()) == 0 {
		v.Containers = expected(snap, v)
	}
	return v
}

// expected is a task's containers before its host reported any.
func expected(snap *model.Snapshot, v *pb.Task) []*pb.Container {
	status := taskstate.Pending
	if v.GetLastStatus() == taskstate.Stopped.String() {
		status = taskstate.Stopped
	}
	var containers []*pb.Container
	for _, d := range snap.DefinitionOf(v.GetTaskDefinitionArn()).GetTaskDefinition().GetContainerDefinitions() {
		c := &pb.Container{
			TaskArn: v.GetTaskArn(), Name: d.GetName(), Image: d.GetImage(), LastStatus: status.String(),
			HealthStatus: pb.HealthStatus_HEALTH_STATUS_UNKNOWN, Cpu: strconv.Itoa(int(d.GetCpu())),
		}
		if d.Memory != nil {
			c.Memory = strconv.Itoa(int(d.GetMemory()))
		}
		if d.MemoryReservation != nil {
			c.MemoryReservation = strconv.Itoa(int(d.GetMemoryReservation()))
		}
		containers = append(containers, c)
	}
	return containers
}

// missingIn is missing for something in a cluster.
func (a *API) missingIn(cluster, kind, s string) *pb.Failure {
	if !strings.HasPrefix(s, "arn:") {
		s = a.arn(kind, cluster, s)
	}
	return &pb.Failure{Arn: s, Reason: "MISSING"}
}

// familyOf is the family of a task definition's ARN.
func familyOf(arn string) string {
	family, _, _ := strings.Cut(lastPart(arn), ":")
	return family
}
