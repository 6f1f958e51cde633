package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func cluster() *control {
	one, two := host("a", "node-1", "10.77.0.11"), host("b", "node-2", "10.77.0.12")
	return &control{
		instances: []*pb.ContainerInstance{two, one},
		tasks: []*pb.Task{
			task("5a7", one.GetContainerInstanceArn(), 32768), task("5a8", two.GetContainerInstanceArn(), 32769), task("6bb", two.GetContainerInstanceArn(), 32770),
		},
	}
}

func TestTaskListShowsWhereTasksAnswer(t *testing.T) {
	code, out, errs := plim(t, cluster(), "task", "ls")
	want := `TASK                              SERVICE  DEFINITION  STATUS   DESIRED  HOST    ADDRESS                 FOR  REASON
5a700000000000000000000000000000  web      web:2       RUNNING           node-1  10.77.0.11:32768->8080  50s
5a800000000000000000000000000000  web      web:2       RUNNING           node-2  10.77.0.12:32769->8080  50s
6bb00000000000000000000000000000  web      web:2       RUNNING           node-2  10.77.0.12:32770->8080  50s
`
	if diff := cmp.Diff(want, out); code != 0 || diff != "" {
		t.Errorf("exit %d, %s (-want +got):\n%s", code, errs, diff)
	}
}

func TestInstanceListShowsWhatIsFree(t *testing.T) {
	_, out, _ := plim(t, cluster(), "instance", "ls")
	want := `INSTANCE                          HOST    ADDRESS     STATUS  AGENT      RUNNING  PENDING  CPU FREE   MEMORY FREE
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa  node-1  10.77.0.11  ACTIVE  connected  0        0        1920/2048  4032/4096
bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb  node-2  10.77.0.12  ACTIVE  connected  0        0        1920/2048  4032/4096
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOutputInECSShape(t *testing.T) {
	code, out, _ := plim(t, cluster(), "task", "describe", "6b", "-o", "json")
	for _, want := range []string{`"tasks": [`, `"taskArn": "arn:aws:ecs:us-east-1:123456789012:task/default/6bb`, `"hostPort": 32770`, `"protocol": "tcp"`} {
		if !strings.Contains(out, want) {
			t.Errorf("exit %d: %s is not in\n%s", code, want, out)
		}
	}
	if _, out, _ = plim(t, cluster(), "task", "ls", "-o", "yaml"); !strings.Contains(out, "lastStatus: RUNNING") {
		t.Errorf("yaml:\n%s", out)
	}
}

func TestTasksAreFoundByTheBeginningOfTheirID(t *testing.T) {
	c := cluster()
	if code, _, errs := plim(t, c, "task", "stop", "6", "5a8"); code != 0 || len(c.stopped) != 2 || !strings.HasSuffix(c.stopped[0], "/6bb00000000000000000000000000000") {
		t.Errorf("exit %d, %s: stopped %v", code, errs, c.stopped)
	}
	for given, want := range map[string]string{
		"5a": `plim: 2 tasks' ids begin with "5a": 5a700000000000000000000000000000, 5a800000000000000000000000000000: "plim task ls --all" lists the tasks`,
		"77": `plim: no task's id begins with "77": "plim task ls --all" lists the tasks`,
	} {
		if code, _, errs := plim(t, cluster(), "task", "stop", given); code != 1 || errs != want+"\n" {
			t.Errorf("stop %s: exit %d, %s", given, code, errs)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"task", "ls", "--cluster", "x"}, 1, `plim: Cluster not found (ClusterNotFoundException): "plim cluster ls" lists the clusters, --cluster chooses one`},
		{[]string{"service", "events", "web"}, 1, `plim: there is no service web: "plim service ls" lists the services`},
		{[]string{"task", "lss"}, 2, `plim: unknown command "lss"; did you mean "ls"?: see "plim task --help"`},
		{[]string{"task", "ls", "--wat"}, 2, `plim: unknown flag: --wat: see "plim task ls --help"`},
		{[]string{"task", "stop"}, 2, `plim: it needs a task: see "plim task stop --help"`},
		{[]string{"service", "scale", "web", "-o", "xml", "3"}, 2, `plim: --output is "xml": it must be table, json, yaml: see "plim service scale --help"`},
		{[]string{"service", "scale", "web", "many"}, 2, `plim: the count is "many": it must be a number, 0 or more: see "plim service scale --help"`},
		{[]string{"service", "create", "--name", "web"}, 2, `plim: it needs --task-definition or -f FILE: see "plim service create --help"`},
		{[]string{"run", "web", "--constraint", "near"}, 2, `plim: placement constraint "near": the type must be distinctInstance or memberOf: see "plim run --help"`},
		{[]string{"run", "big", "--count", "2"}, 1, `plim: 2 task(s) could not be placed (RESOURCE:MEMORY): see what the hosts have with "plim instance ls"`},
		{[]string{"cluster", "create", "x"}, 1, "plim: method CreateCluster not implemented (Unimplemented)"},
	} {
		if code, _, errs := plim(t, cluster(), tc.args...); code != tc.code || errs != tc.want+"\n" {
			t.Errorf("plim %s: exit %d, %s", strings.Join(tc.args, " "), code, errs)
		}
	}
}

func TestNoControlPlane(t *testing.T) {
	var out, errs strings.Builder
	a := &app{out: &out, err: &errs, getenv: func(string) string { return "" }, now: time.Now}
	if code := a.run(t.Context(), []string{"task", "ls"}); code != 1 || !strings.Contains(errs.String(), "sudo plim dev") {
		t.Errorf("exit %d, %s", code, errs.String())
	}
	errs.Reset()
	a = &app{out: &out, err: &errs, getenv: func(string) string { return "" }, now: time.Now}
	if code := a.run(t.Context(), []string{"dev", "env", "--data-dir", t.TempDir()}); code != 1 || !strings.Contains(errs.String(), `no cluster is running here: start one with "sudo plim dev"`) {
		t.Errorf("exit %d, %s", code, errs.String())
	}
}

func TestServiceCreateTakesFlagsOverTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "service.json")
	if err := os.WriteFile(file, []byte(`{"serviceName": "web", "taskDefinition": "web:1", "desiredCount": 2,
		"deploymentConfiguration": {"minimumHealthyPercent": 50, "maximumPercent": 150}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	c := cluster()
	code, out, errs := plim(t, c, "service", "create", "-f", file, "--desired-count", "3", "--maximum-percent", "200", "--rollback",
		"--strategy", "spread:attribute:ecs.availability-zone", "--strategy", "type=binpack,field=memory", "--constraint", "type=memberOf,expression=attribute:a == b")
	if code != 0 || out != "web web:2, 3 desired\n" {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	three, fifty, twice := int32(3), int32(50), int32(200)
	want := &pb.CreateServiceRequest{
		Cluster: "default", ServiceName: "web", TaskDefinition: "web:1", DesiredCount: &three, ClientToken: c.created.GetClientToken(),
		DeploymentConfiguration: &pb.DeploymentConfiguration{
			MinimumHealthyPercent: &fifty, MaximumPercent: &twice,
			DeploymentCircuitBreaker: &pb.DeploymentCircuitBreaker{Enable: true, Rollback: true},
		},
		PlacementStrategy: []*pb.PlacementStrategy{
			{Type: pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_SPREAD, Field: "attribute:ecs.availability-zone"},
			{Type: pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_BINPACK, Field: "memory"},
		},
		PlacementConstraints: []*pb.PlacementConstraint{{Type: pb.PlacementConstraintType_PLACEMENT_CONSTRAINT_TYPE_MEMBER_OF, Expression: "attribute:a == b"}},
	}
	if diff := cmp.Diff(want, c.created, protocmp.Transform()); diff != "" || c.created.GetClientToken() == "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := os.WriteFile(file, []byte(`{"serviceNam": "web"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := plim(t, c, "service", "create", "-f", file); code != 1 || !strings.Contains(errs, "serviceNam: ") || strings.Count(errs, "\n") != 1 {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func deployment(id, definition string, running, pending, desired int32, state pb.DeploymentRolloutState) *pb.Deployment {
	return &pb.Deployment{
		Id: id, Status: "ACTIVE", TaskDefinition: arn + "task-definition/" + definition, DesiredCount: desired, RunningCount: running, PendingCount: pending, RolloutState: state,
	}
}

func service(running, desired int32, events []string, deployments ...*pb.Deployment) *pb.Service {
	s := &pb.Service{ServiceName: "web", Status: "ACTIVE", TaskDefinition: arn + "task-definition/web:2", DesiredCount: desired, RunningCount: running, Deployments: deployments}
	deployments[0].Status = "PRIMARY"
	for _, e := range events {
		s.Events = append([]*pb.ServiceEvent{{Id: e, Message: e, CreatedAt: timestamppb.New(now)}}, s.Events...)
	}
	return s
}

const (
	going  = pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_IN_PROGRESS
	done   = pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_COMPLETED
	failed = pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_FAILED
)

func TestWaitFollowsADeploymentToTheSteadyState(t *testing.T) {
	c := cluster()
	c.services = []*pb.Service{
		// As it was before: nothing to be taken for steady, or for a rollback.
		service(3, 3, nil, deployment("1", "web:1", 3, 0, 3, done)),
		service(3, 3, []string{"started 1"}, deployment("2", "web:2", 0, 1, 3, going), deployment("1", "web:1", 3, 0, 3, done)),
		service(3, 3, []string{"started 1", "steady"}, deployment("2", "web:2", 3, 0, 3, done)),
	}
	code, out, errs := plim(t, c, "service", "update", "web", "--task-definition", "web", "--wait")
	var news []string
	for line := range strings.Lines(errs) {
		news = append(news, strings.TrimSpace(line[strings.Index(line, "  "):]))
	}
	want := []string{
		"web:1 3/3 running", "started 1", "web:2 0/3 running, 1 pending; web:1 3/3 running", "steady", "web:2 3/3 running",
	}
	if diff := cmp.Diff(want, news); code != 0 || diff != "" {
		t.Errorf("exit %d (-want +got):\n%s", code, diff)
	}
	if !strings.Contains(out, "COMPLETED") {
		t.Errorf("out: %s", out)
	}
}

func TestWaitFailsWithTheDeployment(t *testing.T) {
	broken := deployment("2", "web:2", 0, 0, 3, failed)
	broken.RolloutStateReason = "tasks failed to start"
	for name, tc := range map[string]struct {
		services []*pb.Service
		want     string
	}{
		"failed": {[]*pb.Service{service(0, 3, nil, broken)}, "plim: the deployment of web:2 failed (tasks failed to start): see"},
		"rolled back": {[]*pb.Service{
			service(3, 3, nil, deployment("2", "web:2", 0, 1, 3, going), deployment("1", "web:1", 3, 0, 3, done)),
			service(3, 3, nil, deployment("3", "web:1", 3, 0, 3, done)),
		}, "plim: service web was rolled back to web:1: see"},
		"too slow": {[]*pb.Service{service(0, 3, nil, deployment("2", "web:2", 0, 3, 3, going))}, "plim: service web is not steady after 100ms: see"},
	} {
		c := cluster()
		c.services = tc.services
		timeout := "1m"
		if name == "too slow" {
			timeout = "100ms"
		}
		code, _, errs := plim(t, c, "service", "update", "web", "--task-definition", "web", "--wait", "--timeout", timeout)
		lines := strings.Split(strings.TrimSpace(errs), "\n")
		if code != 1 || !strings.HasPrefix(lines[len(lines)-1], tc.want) {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
	}
}

func TestUpdateOfOnePercentKeepsTheOther(t *testing.T) {
	c := cluster()
	fifty, twice := int32(50), int32(200)
	s := service(3, 3, nil, deployment("1", "web:1", 3, 0, 3, done))
	s.DeploymentConfiguration = &pb.DeploymentConfiguration{MinimumHealthyPercent: &fifty, MaximumPercent: &twice}
	c.services = []*pb.Service{s}
	if code, _, errs := plim(t, c, "service", "update", "web", "--min", "75"); code != 0 {
		t.Fatal(errs)
	}
	if d := c.updated.GetDeploymentConfiguration(); d.GetMinimumHealthyPercent() != 75 || d.GetMaximumPercent() != 200 {
		t.Errorf("deployment configuration %v", d)
	}
}

func TestRunWaitsAndReportsExitCodes(t *testing.T) {
	for name, tc := range map[string]struct {
		exit int32
		code int
		errs string
	}{
		"good": {0, 0, ""}, "bad": {3, 1, "plim: 1 of 1 tasks failed\n"},
	} {
		c := cluster()
		c.tasks = c.tasks[:1]
		c.tasks[0].LastStatus, c.tasks[0].DesiredStatus = "STOPPED", "STOPPED"
		c.tasks[0].Containers[0].ExitCode = &tc.exit
		code, out, errs := plim(t, c, "run", "job", "--wait", "-e", "A=1=2", "--", "echo", "--x")
		if code != tc.code || !strings.HasSuffix(errs, "STOPPED\n"+tc.errs) || !strings.Contains(out, "web        "+number(tc.exit)) {
			t.Errorf("%s: exit %d, %s%s", name, code, out, errs)
		}
		want := &pb.TaskOverride{ContainerOverrides: []*pb.ContainerOverride{{
			Name: "main", Command: []string{"echo", "--x"}, Environment: []*pb.KeyValuePair{{Name: "A", Value: "1=2"}},
		}}}
		if diff := cmp.Diff(want, c.ran.GetOverrides(), protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestLogsAreCopiedAsTheyCome(t *testing.T) {
	c := cluster()
	c.logs = []string{"one\ntw", "o\n"}
	if code, out, errs := plim(t, c, "task", "logs", "6bb"); code != 0 || out != "one\ntwo\n" {
		t.Errorf("exit %d: %q %s", code, out, errs)
	}
}

func TestCompletionOffersNames(t *testing.T) {
	_, out, _ := plim(t, cluster(), "__complete", "task", "stop", "")
	if !strings.Contains(out, "6bb00000000000000000000000000000\n") {
		t.Errorf("completion: %s", out)
	}
}

func FuzzTyped(f *testing.F) {
	f.Add("type=memberOf,expression=a == b")
	f.Add("spread:attribute:x")
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = parseStrategy(s)
		_, _ = parseConstraint(s)
	})
}
