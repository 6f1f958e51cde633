package api_test

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func (r *rig) create(in string) *pb.Service {
	r.t.Helper()
	return must(r.CreateService(r.ctx, read(r.t, in, &pb.CreateServiceRequest{}))).GetService()
}

func (r *rig) update(in string) *pb.Service {
	r.t.Helper()
	return must(r.UpdateService(r.ctx, read(r.t, in, &pb.UpdateServiceRequest{}))).GetService()
}

func (r *rig) record(name string) *pb.ServiceRecord {
	s, ok := r.store.Snapshot().Service("default", name)
	if !ok {
		r.t.Fatalf("no service %s", name)
	}
	return s.Record
}

func TestCreateServiceFillsWhatECSFills(t *testing.T) {
	r := newRig(t)
	r.register("web")
	got := r.create(`{"serviceName":"s","taskDefinition":"web","desiredCount":3,"tags":[{"key":"a","value":"b"}]}`)
	id := r.record("s").GetDeploymentId()
	if !regexp.MustCompile(`^ecs-svc/[1-9][0-9]{18}$`).MatchString(id) {
		t.Errorf("deployment id %s", id)
	}
	want := read(t, `{"serviceArn":"`+prefix+`service/default/s","serviceName":"s","clusterArn":"`+prefix+`cluster/default","status":"ACTIVE",
		"desiredCount":3,"launchType":"EC2","taskDefinition":"`+prefix+`task-definition/web:1","schedulingStrategy":"REPLICA","createdAt":"2026-03-01T12:00:00Z",
		"deploymentConfiguration":{"maximumPercent":200,"minimumHealthyPercent":100,"strategy":"ROLLING","deploymentCircuitBreaker":{"enable":false,"rollback":false}},
		"deploymentController":{"type":"ECS"},"tags":[{"key":"a","value":"b"}],"propagateTags":"NONE","availabilityZoneRebalancing":"DISABLED",
		"deployments":[{"id":"`+id+`","status":"PRIMARY","taskDefinition":"`+prefix+`task-definition/web:1","desiredCount":3,"launchType":"EC2",
			"createdAt":"2026-03-01T12:00:00Z","updatedAt":"2026-03-01T12:00:00Z","rolloutState":"IN_PROGRESS","rolloutStateReason":"ECS deployment `+id+` in progress."}]}`, &pb.Service{})
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	daemon := r.create(`{"serviceName":"d","taskDefinition":"web","schedulingStrategy":"DAEMON"}`)
	if c := daemon.GetDeploymentConfiguration(); c.GetMaximumPercent() != 100 || c.GetMinimumHealthyPercent() != 0 {
		t.Errorf("got %v", c)
	}
}

func TestCreateServiceIsIdempotentUnderItsToken(t *testing.T) {
	r := newRig(t)
	r.register("web")
	const in = `{"serviceName":"s","taskDefinition":"web","desiredCount":1,"clientToken":"t"}`
	first := r.create(in)
	if again := r.create(in); !proto.Equal(first, again) {
		t.Errorf("got %v", again)
	}
	for _, other := range []string{
		`{"serviceName":"s","taskDefinition":"web","desiredCount":1}`,
		`{"serviceName":"s","taskDefinition":"web","desiredCount":1,"clientToken":"u"}`,
	} {
		_, err := r.CreateService(r.ctx, read(t, other, &pb.CreateServiceRequest{}))
		refused(t, err, apierror.InvalidParameter, "Creation of service was not idempotent.")
	}
}

func TestServiceRequestsAreRefused(t *testing.T) {
	r := newRig(t)
	r.register("web")
	r.create(`{"serviceName":"s","taskDefinition":"web","desiredCount":1}`)
	for in, want := range map[string]struct {
		e    apierror.Exception
		text string
	}{
		`{"serviceName":"x","taskDefinition":"web"}`:                                                                   {apierror.InvalidParameter, "desiredCount: required"},
		`{"serviceName":"x","taskDefinition":"nope","desiredCount":1}`:                                                 {apierror.Client, "nope"},
		`{"serviceName":"x","taskDefinition":"web","desiredCount":1,"cluster":"x"}`:                                    {apierror.ClusterNotFound, "x"},
		`{"serviceName":"x","taskDefinition":"web","desiredCount":1,"deploymentConfiguration":{"maximumPercent":100}}`: {apierror.InvalidParameter, "cannot both be 100"},
	} {
		_, err := r.CreateService(r.ctx, read(t, in, &pb.CreateServiceRequest{}))
		refused(t, err, want.e, want.text)
	}
	for in, want := range map[string]struct {
		e    apierror.Exception
		text string
	}{
		`{}`:                            {apierror.InvalidParameter, "service: required"},
		`{"service":"x"}`:               {apierror.ServiceNotFound, `"x" does not exist`},
		`{"service":"s","cluster":"x"}`: {apierror.ClusterNotFound, "x"},
		`{"service":"s","taskDefinition":"nope"}`:                          {apierror.Client, "nope"},
		`{"service":"s","desiredCount":-1}`:                                {apierror.InvalidParameter, "desiredCount: -1"},
		`{"service":"s","deploymentConfiguration":{"maximumPercent":100}}`: {apierror.InvalidParameter, "cannot both be 100"},
		`{"service":"s","loadBalancers":[{"containerPort":1}]}`:            {apierror.InvalidParameter, "loadBalancers"},
	} {
		_, err := r.UpdateService(r.ctx, read(t, in, &pb.UpdateServiceRequest{}))
		refused(t, err, want.e, want.text)
	}
	_, err := r.DeleteService(r.ctx, &pb.DeleteServiceRequest{Service: "x"})
	refused(t, err, apierror.ServiceNotFound, "x")
}

func TestUpdateStartsADeploymentOnlyForWhatTasksAre(t *testing.T) {
	r := newRig(t)
	r.register("web")
	r.register("web")
	r.create(`{"serviceName":"s","taskDefinition":"web:1","desiredCount":1,"placementStrategy":[{"type":"random"}]}`)
	for _, tc := range []struct {
		in         string
		deployment bool
	}{
		{`{"service":"s","desiredCount":5}`, false},
		{`{"service":"s","taskDefinition":"web:1"}`, false},
		{`{"service":"s","taskDefinition":"web"}`, true},
		{`{"service":"s","forceNewDeployment":true}`, true},
		{`{"service":"s","deploymentConfiguration":{"minimumHealthyPercent":50,"deploymentCircuitBreaker":{"enable":true,"rollback":true}}}`, false},
		{`{"service":"s","placementConstraints":[{"type":"distinctInstance"}],"placementStrategy":[]}`, false},
		{`{"service":"s","enableECSManagedTags":true,"propagateTags":"SERVICE"}`, false},
	} {
		before := r.record("s").GetDeploymentId()
		r.now = r.now.Add(1e9)
		got := r.update(tc.in)
		after := r.record("s")
		if (after.GetDeploymentId() != before) != tc.deployment {
			t.Errorf("%s: deployment %s, before %s", tc.in, after.GetDeploymentId(), before)
		}
		if tc.deployment && !after.GetDeploymentCreatedAt().AsTime().Equal(r.now) {
			t.Errorf("%s: created at %v", tc.in, after.GetDeploymentCreatedAt().AsTime())
		}
		if len(got.GetDeployments()) != 1 || got.GetDeployments()[0].GetId() != after.GetDeploymentId() {
			t.Errorf("%s: deployments %v", tc.in, got.GetDeployments())
		}
	}
	s := r.record("s").GetService()
	if s.GetDesiredCount() != 5 || s.GetTaskDefinition() != prefix+"task-definition/web:2" || len(s.GetPlacementStrategy()) != 0 || len(s.GetPlacementConstraints()) != 1 ||
		s.GetDeploymentConfiguration().GetMinimumHealthyPercent() != 50 || s.GetDeploymentConfiguration().GetMaximumPercent() != 200 ||
		!s.GetDeploymentConfiguration().GetDeploymentCircuitBreaker().GetRollback() || !s.GetEnableEcsManagedTags() || s.GetPropagateTags() != pb.PropagateTags_PROPAGATE_TAGS_SERVICE {
		t.Errorf("got %v", s)
	}
}

// TestDescriptionJoinsWhatTheReconcilerDid has a service in the middle of a
// rollout.
func TestDescriptionJoinsWhatTheReconcilerDid(t *testing.T) {
	r := newRig(t)
	r.register("web")
	r.register("web")
	r.create(`{"serviceName":"s","taskDefinition":"web:1","desiredCount":2}`)
	d1 := r.record("s").GetDeploymentId()
	state := &pb.ServiceStatusRecord{
		Cluster: "default", Service: "s",
		Deployments: []*pb.DeploymentState{{RequestedBy: d1, Deployment: &pb.Deployment{Id: d1, Status: "PRIMARY", TaskDefinition: prefix + "task-definition/web:1", DesiredCount: 2,
			RolloutState: pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_COMPLETED}}},
		Events: []*pb.ServiceEvent{{Id: "e", Message: "(service s) has reached a steady state.", CreatedAt: timestamppb.New(r.now)}},
	}
	r.put("service-status", "s", state)
	r.serviceTask("t1", "s", d1, "RUNNING")
	r.serviceTask("t2", "s", d1, "PENDING")
	r.serviceTask("t3", "s", d1, "STOPPED")
	r.serviceTask("t4", "other", d1, "RUNNING")
	describe := func() *pb.Service {
		return must(r.DescribeServices(r.ctx, &pb.DescribeServicesRequest{Services: []string{"s"}})).GetServices()[0]
	}
	s := describe()
	if s.GetRunningCount() != 1 || s.GetPendingCount() != 1 || len(s.GetEvents()) != 1 || len(s.GetDeployments()) != 1 ||
		s.GetDeployments()[0].GetRunningCount() != 1 || s.GetDeployments()[0].GetPendingCount() != 1 {
		t.Errorf("got %v", s)
	}
	// An update is seen at once, before the reconciler knows it.
	s = r.update(`{"service":"s","taskDefinition":"web:2"}`)
	if len(s.GetDeployments()) != 2 || s.GetDeployments()[0].GetStatus() != "PRIMARY" || s.GetDeployments()[1].GetStatus() != "ACTIVE" || s.GetTaskDefinition() != prefix+"task-definition/web:2" {
		t.Errorf("got %v", s)
	}
	// It fails and is rolled back: the service has the old definition again, and
	// the next update starts from there.
	d2 := r.record("s").GetDeploymentId()
	state.Deployments = []*pb.DeploymentState{
		{RequestedBy: d2, Deployment: &pb.Deployment{Id: "ecs-svc/9", Status: "PRIMARY", TaskDefinition: prefix + "task-definition/web:1", DesiredCount: 2}},
		{RequestedBy: d2, Deployment: &pb.Deployment{Id: d2, Status: "ACTIVE", TaskDefinition: prefix + "task-definition/web:2", RolloutState: pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_FAILED}},
	}
	r.put("service-status", "s", state)
	if s = describe(); s.GetTaskDefinition() != prefix+"task-definition/web:1" || len(s.GetDeployments()) != 2 {
		t.Errorf("got %v", s)
	}
	if s = r.update(`{"service":"s","desiredCount":3}`); r.record("s").GetDeploymentId() != d2 {
		t.Errorf("scaling after a rollback started a deployment: %v", s)
	}
	if r.update(`{"service":"s","taskDefinition":"web:2"}`); r.record("s").GetDeploymentId() == d2 {
		t.Error("trying the failed definition again started no deployment")
	}
	res := must(r.DescribeServices(r.ctx, &pb.DescribeServicesRequest{Services: []string{"x", prefix + "service/default/s", prefix + "service/s"}, Include: []pb.ServiceField{pb.ServiceField_SERVICE_FIELD_TAGS}}))
	if len(res.GetServices()) != 2 || len(res.GetFailures()) != 1 || res.GetFailures()[0].GetArn() != prefix+"service/default/x" || res.GetFailures()[0].GetReason() != "MISSING" {
		t.Errorf("got %v", res)
	}
}

func TestForcedDeploymentAfterARollbackKeepsWhatRuns(t *testing.T) {
	r := newRig(t)
	r.register("web")
	r.register("web")
	r.create(`{"serviceName":"s","taskDefinition":"web:2","desiredCount":2}`)
	r.put("service-status", "s", &pb.ServiceStatusRecord{Deployments: []*pb.DeploymentState{
		{RequestedBy: r.record("s").GetDeploymentId(), Deployment: &pb.Deployment{Id: "back", Status: "PRIMARY", TaskDefinition: prefix + "task-definition/web:1"}},
	}})
	r.update(`{"service":"s","forceNewDeployment":true}`)
	if got := r.record("s").GetService().GetTaskDefinition(); got != prefix+"task-definition/web:1" {
		t.Errorf("got %s", got)
	}
}

func TestServiceLifeEnds(t *testing.T) {
	r := newRig(t)
	r.register("web")
	r.create(`{"serviceName":"s","taskDefinition":"web","desiredCount":1}`)
	_, err := r.DeleteService(r.ctx, &pb.DeleteServiceRequest{Service: "s"})
	refused(t, err, apierror.InvalidParameter, "The service cannot be stopped while it is scaled above 0.")
	s := must(r.DeleteService(r.ctx, &pb.DeleteServiceRequest{Service: "s", Force: proto.Bool(true)})).GetService()
	if s.GetStatus() != "DRAINING" || s.GetDesiredCount() != 0 {
		t.Errorf("got %v", s)
	}
	if again := must(r.DeleteService(r.ctx, &pb.DeleteServiceRequest{Service: "s"})).GetService(); !proto.Equal(s, again) {
		t.Errorf("got %v", again)
	}
	_, err = r.CreateService(r.ctx, read(t, `{"serviceName":"s","taskDefinition":"web","desiredCount":1}`, &pb.CreateServiceRequest{}))
	refused(t, err, apierror.InvalidParameter, "still Draining")
	_, err = r.UpdateService(r.ctx, &pb.UpdateServiceRequest{Service: "s"})
	refused(t, err, apierror.ServiceNotActive, "DRAINING")

	list := func(in string) []string {
		return must(r.ListServices(r.ctx, read(t, in, &pb.ListServicesRequest{}))).GetServiceArns()
	}
	if len(list(`{}`)) != 1 {
		t.Error("a draining service is not listed")
	}
	r.put("service-status", "s", &pb.ServiceStatusRecord{Inactive: true, Events: []*pb.ServiceEvent{{Id: "old"}}})
	if got := must(r.DescribeServices(r.ctx, &pb.DescribeServicesRequest{Services: []string{"s"}})).GetServices()[0]; got.GetStatus() != "INACTIVE" || len(got.GetDeployments()) != 0 {
		t.Errorf("got %v", got)
	}
	if len(list(`{}`)) != 0 {
		t.Error("an inactive service is listed")
	}
	s = r.create(`{"serviceName":"s","taskDefinition":"web","desiredCount":2}`)
	if s.GetStatus() != "ACTIVE" || len(s.GetEvents()) != 0 || len(s.GetDeployments()) != 1 {
		t.Errorf("the new service has the old one's past: %v", s)
	}
	r.create(`{"serviceName":"d","taskDefinition":"web","schedulingStrategy":"DAEMON"}`)
	if diff := cmp.Diff([]string{prefix + "service/default/d"}, list(`{"schedulingStrategy":"DAEMON"}`)); diff != "" {
		t.Error(diff)
	}
	if got := list(`{"launchType":"FARGATE"}`); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestDaemonHasAsManyAsItsDeploymentWants(t *testing.T) {
	r := newRig(t)
	r.register("web")
	r.create(`{"serviceName":"d","taskDefinition":"web","schedulingStrategy":"DAEMON"}`)
	id := r.record("d").GetDeploymentId()
	r.put("service-status", "d", &pb.ServiceStatusRecord{Deployments: []*pb.DeploymentState{{RequestedBy: id, Deployment: &pb.Deployment{Id: id, Status: "PRIMARY", DesiredCount: 4}}}})
	if got := must(r.DescribeServices(r.ctx, &pb.DescribeServicesRequest{Services: []string{"d"}})).GetServices()[0].GetDesiredCount(); got != 4 {
		t.Errorf("got %d", got)
	}
}
