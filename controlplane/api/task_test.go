package api_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestRunTaskMakesCompleteTasks(t *testing.T) {
	r := newRig(t)
	r.register("web")
	arn := r.host("h1")
	res := must(r.RunTask(r.ctx, read(t, `{"taskDefinition":"web","count":2,"startedBy":"me","propagateTags":"TASK_DEFINITION","enableECSManagedTags":true,
		"tags":[{"key":"own","value":"1"}],"overrides":{"containerOverrides":[{"name":"app","cpu":200,"command":["x"]}]},
		"placementConstraints":[{"type":"distinctInstance"}],"placementStrategy":[{"type":"random"}]}`, &pb.RunTaskRequest{})))
	if len(res.GetTasks()) != 2 || len(res.GetFailures()) != 0 {
		t.Fatalf("got %v", res)
	}
	task := res.GetTasks()[0]
	if task.GetGroup() != "family:web" || task.GetStartedBy() != "me" || task.GetLastStatus() != "PENDING" || task.GetDesiredStatus() != "RUNNING" ||
		task.GetContainerInstanceArn() != arn || task.GetCpu() != "200" || task.GetMemory() != "128" || task.GetLaunchType() != pb.LaunchType_LAUNCH_TYPE_EC2 ||
		task.GetClusterArn() != prefix+"cluster/default" || task.GetTaskDefinitionArn() != prefix+"task-definition/web:1" ||
		task.GetAvailabilityZone() != "zone-a" || task.GetConnectivity() != pb.Connectivity_CONNECTIVITY_CONNECTED || task.GetCreatedAt() == nil {
		t.Errorf("got %v", task)
	}
	if len(task.GetContainers()) != 1 || task.GetContainers()[0].GetName() != "app" || task.GetContainers()[0].GetLastStatus() != "PENDING" {
		t.Errorf("containers %v", task.GetContainers())
	}
	tags := map[string]string{}
	for _, tag := range task.GetTags() {
		tags[tag.GetKey()] = tag.GetValue()
	}
	if diff := cmp.Diff(map[string]string{"from": "definition", "own": "1", "aws:ecs:clusterName": "default"}, tags); diff != "" {
		t.Error(diff)
	}
	stored, _ := r.store.Snapshot().Task("default", task.GetTaskArn()[len(prefix+"task/default/"):])
	rec := stored.Record
	if rec.GetResources().GetCpu() != 200 || rec.GetResources().GetMemory() != 128 || len(rec.GetResources().GetHostPorts()) != 1 ||
		len(rec.GetPlacementConstraints()) != 1 || len(rec.GetPlacementStrategy()) != 1 || len(rec.GetId()) != 32 {
		t.Errorf("stored %v", rec)
	}
}

func TestRunTaskAnswersWhatCannotBePlaced(t *testing.T) {
	r := newRig(t)
	r.register("web")
	res := must(r.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: "web"}))
	if len(res.GetTasks()) != 0 || len(res.GetFailures()) != 1 || res.GetFailures()[0].GetReason() != "RESOURCE:MEMORY" {
		t.Errorf("got %v", res)
	}
	r.scheduler.err = errors.New("this replica does not lead")
	_, err := r.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: "web"})
	refused(t, err, apierror.Server, "does not lead")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestRunTaskIsRefused(t *testing.T) {
	r := newRig(t)
	r.register("web")
	for in, want := range map[string]struct {
		e    apierror.Exception
		text string
	}{
		`{}`:                                     {apierror.InvalidParameter, "taskDefinition: required"},
		`{"taskDefinition":"nope"}`:              {apierror.Client, "no ACTIVE revision"},
		`{"taskDefinition":"web","cluster":"x"}`: {apierror.ClusterNotFound, `"x"`},
		`{"taskDefinition":"web","overrides":{"containerOverrides":[{"name":"db"}]}}`:                         {apierror.InvalidParameter, `"db" is not a container`},
		`{"taskDefinition":"web","placementConstraints":[{"type":"memberOf","expression":"attribute:a =="}]}`: {apierror.InvalidParameter, "column"},
	} {
		_, err := r.RunTask(r.ctx, read(t, in, &pb.RunTaskRequest{}))
		refused(t, err, want.e, want.text)
	}
}

func TestRunTaskIsIdempotentUnderItsToken(t *testing.T) {
	r := newRig(t)
	r.register("web")
	r.host("h1")
	const in = `{"taskDefinition":"web","count":2,"clientToken":"once","overrides":{"containerOverrides":[{"name":"app","command":["x"]}]}}`
	first := must(r.RunTask(r.ctx, read(t, in, &pb.RunTaskRequest{})))
	r.now = r.now.Add(1e9)
	again := must(r.RunTask(r.ctx, read(t, in, &pb.RunTaskRequest{})))
	if !proto.Equal(first, again) {
		t.Errorf("got %v, want %v", again, first)
	}
	for _, other := range []string{
		`{"taskDefinition":"web","count":1,"clientToken":"once","overrides":{"containerOverrides":[{"name":"app","command":["x"]}]}}`,
		`{"taskDefinition":"web","count":2,"clientToken":"once"}`,
	} {
		_, err := r.RunTask(r.ctx, read(t, other, &pb.RunTaskRequest{}))
		refused(t, err, apierror.Conflict, "once")
	}
}

func TestStartTaskNamesItsInstances(t *testing.T) {
	r := newRig(t)
	r.register("web")
	arn := r.host("h1")
	res := must(r.StartTask(r.ctx, &pb.StartTaskRequest{TaskDefinition: "web", ContainerInstances: []string{arn, "nope"}}))
	if len(res.GetTasks()) != 1 || res.GetTasks()[0].GetContainerInstanceArn() != arn {
		t.Errorf("got %v", res)
	}
	if f := res.GetFailures(); len(f) != 1 || f[0].GetReason() != "MISSING" || f[0].GetArn() != prefix+"container-instance/default/nope" {
		t.Errorf("got %v", f)
	}
	_, err := r.StartTask(r.ctx, &pb.StartTaskRequest{TaskDefinition: "web"})
	refused(t, err, apierror.InvalidParameter, "containerInstances")
}

func TestStopTask(t *testing.T) {
	r := newRig(t)
	r.register("web")
	r.host("h1")
	running := must(r.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: "web"})).GetTasks()[0]
	got := must(r.StopTask(r.ctx, &pb.StopTaskRequest{Task: running.GetTaskArn()})).GetTask()
	if got.GetDesiredStatus() != "STOPPED" || got.GetLastStatus() != "PENDING" || got.GetStopCode() != pb.TaskStopCode_TASK_STOP_CODE_USER_INITIATED ||
		got.GetStoppedReason() != "Task stopped by user" || got.GetStoppingAt() == nil || got.GetStoppedAt() != nil {
		t.Errorf("got %v", got)
	}
	r.now = r.now.Add(1e9)
	again := must(r.StopTask(r.ctx, &pb.StopTaskRequest{Task: running.GetTaskArn(), Reason: "other"})).GetTask()
	if !proto.Equal(got, again) {
		t.Error("a second stop changed the task")
	}
	r.serviceTask("waiting", "web", "d", "")
	got = must(r.StopTask(r.ctx, &pb.StopTaskRequest{Task: "waiting", Reason: "enough"})).GetTask()
	if got.GetLastStatus() != "STOPPED" || got.GetStoppedAt() == nil || got.GetStoppedReason() != "enough" {
		t.Errorf("a task that was never bound: %v", got)
	}
	_, err := r.StopTask(r.ctx, &pb.StopTaskRequest{Task: "nope"})
	refused(t, err, apierror.InvalidParameter, `"nope" does not exist`)
	_, err = r.StopTask(r.ctx, &pb.StopTaskRequest{})
	refused(t, err, apierror.InvalidParameter, "task: required")
	r.notLeader = errors.New("this replica does not lead")
	_, err = r.StopTask(r.ctx, &pb.StopTaskRequest{Task: "waiting"})
	refused(t, err, apierror.Server, "does not lead")
}

func TestDescribeTasks(t *testing.T) {
	r := newRig(t)
	r.register("web")
	r.host("h1")
	task := must(r.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: "web", Tags: []*pb.Tag{{Key: "a"}}})).GetTasks()[0]
	id := task.GetTaskArn()[len(prefix+"task/default/"):]
	res := must(r.DescribeTasks(r.ctx, &pb.DescribeTasksRequest{Tasks: []string{id, prefix + "task/" + id, task.GetTaskArn(), "nope", prefix + "task/other/" + id}}))
	if len(res.GetTasks()) != 3 || len(res.GetTasks()[0].GetTags()) != 0 {
		t.Errorf("got %v", res.GetTasks())
	}
	want := []*pb.Failure{{Arn: prefix + "task/default/nope", Reason: "MISSING"}, {Arn: prefix + "task/other/" + id, Reason: "MISSING"}}
	if len(res.GetFailures()) != 2 || !proto.Equal(want[0], res.GetFailures()[0]) || !proto.Equal(want[1], res.GetFailures()[1]) {
		t.Errorf("got %v", res.GetFailures())
	}
	res = must(r.DescribeTasks(r.ctx, &pb.DescribeTasksRequest{Tasks: []string{id}, Include: []pb.TaskField{pb.TaskField_TASK_FIELD_TAGS}}))
	if len(res.GetTasks()[0].GetTags()) != 1 {
		t.Errorf("tags %v", res.GetTasks()[0].GetTags())
	}
	_, err := r.DescribeTasks(r.ctx, &pb.DescribeTasksRequest{})
	refused(t, err, apierror.InvalidParameter, "tasks")
}

func TestListTasksFilters(t *testing.T) {
	r := newRig(t)
	r.register("web")
	r.host("h1")
	must(r.CreateService(r.ctx, read(t, `{"serviceName":"s","taskDefinition":"web","desiredCount":2}`, &pb.CreateServiceRequest{})))
	alone := must(r.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: "web", StartedBy: "me"})).GetTasks()[0].GetTaskArn()
	r.serviceTask("s1", "s", "d", "RUNNING")
	r.serviceTask("s2", "s", "d", "STOPPED")
	s1, s2 := prefix+"task/default/s1", prefix+"task/default/s2"
	for in, want := range map[string][]string{
		`{}`: {alone, s1}, `{"desiredStatus":"STOPPED"}`: {s2}, `{"desiredStatus":"PENDING"}`: nil,
		`{"serviceName":"s"}`: {s1}, `{"serviceName":"` + prefix + `service/default/s","desiredStatus":"STOPPED"}`: {s2},
		`{"containerInstance":"h1"}`: {alone}, `{"containerInstance":"h1","serviceName":"s"}`: nil,
		`{"startedBy":"me"}`: {alone}, `{"family":"web"}`: {alone, s1}, `{"family":"we"}`: nil,
		`{"launchType":"FARGATE"}`: nil, `{"launchType":"EC2","startedBy":"d"}`: {s1},
	} {
		got := must(r.ListTasks(r.ctx, read(t, in, &pb.ListTasksRequest{}))).GetTaskArns()
		set := func(s []string) map[string]bool {
			m := map[string]bool{}
			for _, v := range s {
				m[v] = true
			}
			return m
		}
		if diff := cmp.Diff(set(want), set(got)); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
	_, err := r.ListTasks(r.ctx, &pb.ListTasksRequest{ServiceName: "nope"})
	refused(t, err, apierror.ServiceNotFound, "nope")
	_, err = r.ListTasks(r.ctx, &pb.ListTasksRequest{ContainerInstance: "nope"})
	refused(t, err, apierror.InvalidParameter, "nope")
	_, err = r.ListTasks(r.ctx, &pb.ListTasksRequest{DaemonName: "d"})
	refused(t, err, apierror.InvalidParameter, "daemonName")
}
