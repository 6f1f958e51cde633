package api_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestRegistrationFillsWhatECSFills(t *testing.T) {
	r := newRig(t)
	in := read(t, `{"family":"web","cpu":"0.5 vCPU","memory":"1GB","containerDefinitions":[{"name":"a","image":"b","portMappings":[{"containerPort":80}]}]}`, &pb.RegisterTaskDefinitionRequest{})
	before := proto.CloneOf(in)
	got := must(r.RegisterTaskDefinition(r.ctx, in)).GetTaskDefinition()
	want := read(t, `{"taskDefinitionArn":"`+prefix+`task-definition/web:1","family":"web","revision":1,"status":"ACTIVE","networkMode":"bridge",
		"cpu":"512","memory":"1024","compatibilities":["EXTERNAL","EC2"],"registeredAt":"2026-03-01T12:00:00Z",
		"containerDefinitions":[{"name":"a","image":"b","cpu":0,"essential":true,"portMappings":[{"containerPort":80,"hostPort":0,"protocol":"tcp"}]}]}`, &pb.TaskDefinition{})
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if !proto.Equal(before, in) {
		t.Error("the request was changed")
	}
	host := must(r.RegisterTaskDefinition(r.ctx, read(t, `{"family":"h","networkMode":"host","containerDefinitions":[{"name":"a","image":"b","memory":6,"portMappings":[{"containerPort":80}]}]}`, &pb.RegisterTaskDefinitionRequest{})))
	if got := host.GetTaskDefinition().GetContainerDefinitions()[0].GetPortMappings()[0].GetHostPort(); got != 80 {
		t.Errorf("host mode: hostPort %d, want 80", got)
	}
	_, err := r.RegisterTaskDefinition(r.ctx, read(t, `{"family":"web","volumes":[{"name":"v"}],"containerDefinitions":[{"name":"a","image":"b","memory":6}]}`, &pb.RegisterTaskDefinitionRequest{}))
	refused(t, err, apierror.Client, "volumes: is not supported yet")
}

func TestTaskDefinitionsAreFoundByFamilyRevisionAndARN(t *testing.T) {
	r := newRig(t)
	for range 11 {
		r.register("web")
	}
	must(r.DeregisterTaskDefinition(r.ctx, &pb.DeregisterTaskDefinitionRequest{TaskDefinition: "web:11"}))
	for in, want := range map[string]int32{
		"web": 10, "web:11": 11, "web:2": 2, prefix + "task-definition/web:9": 9, prefix + "task-definition/web": 10,
	} {
		res, err := r.DescribeTaskDefinition(r.ctx, &pb.DescribeTaskDefinitionRequest{TaskDefinition: in, Include: []pb.TaskDefinitionField{pb.TaskDefinitionField_TASK_DEFINITION_FIELD_TAGS}})
		if err != nil || res.GetTaskDefinition().GetRevision() != want || len(res.GetTags()) != 1 {
			t.Errorf("%s: got %v, %v; want revision %d", in, res, err, want)
		}
	}
	for _, in := range []string{"", "nope", "web:12", "web:x", "a/b", "arn:aws:ecs:eu-test-1:000000000000:task-definition/web:1", prefix + "cluster/web"} {
		_, err := r.DescribeTaskDefinition(r.ctx, &pb.DescribeTaskDefinitionRequest{TaskDefinition: in})
		refused(t, err, apierror.Client, "")
	}
	if res := must(r.DescribeTaskDefinition(r.ctx, &pb.DescribeTaskDefinitionRequest{TaskDefinition: "web"})); len(res.GetTags()) != 0 {
		t.Error("tags were not asked for")
	}
}

func TestTaskDefinitionsAreListed(t *testing.T) {
	r := newRig(t)
	for range 10 {
		r.register("web")
	}
	r.register("webby")
	r.register("old")
	must(r.DeregisterTaskDefinition(r.ctx, &pb.DeregisterTaskDefinitionRequest{TaskDefinition: "old:1"}))
	must(r.DeregisterTaskDefinition(r.ctx, &pb.DeregisterTaskDefinitionRequest{TaskDefinition: "web:3"}))
	arns := func(ids ...string) (all []string) {
		for _, id := range ids {
			all = append(all, prefix+"task-definition/"+id)
		}
		return all
	}
	for in, want := range map[string][]string{
		`{"familyPrefix":"web"}`:                       arns("web:1", "web:2", "web:4", "web:5", "web:6", "web:7", "web:8", "web:9", "web:10"),
		`{"familyPrefix":"web","status":"INACTIVE"}`:   arns("web:3"),
		`{"sort":"DESC","maxResults":3}`:               arns("webby:1", "web:10", "web:9"),
		`{"status":"INACTIVE"}`:                        arns("old:1", "web:3"),
		`{"familyPrefix":"we"}`:                        nil,
		`{"status":"DELETE_IN_PROGRESS","sort":"ASC"}`: nil,
	} {
		got := must(r.ListTaskDefinitions(r.ctx, read(t, in, &pb.ListTaskDefinitionsRequest{})))
		if diff := cmp.Diff(want, got.GetTaskDefinitionArns()); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
	next := must(r.ListTaskDefinitions(r.ctx, read(t, `{"sort":"DESC","maxResults":9}`, &pb.ListTaskDefinitionsRequest{}))).GetNextToken()
	rest := must(r.ListTaskDefinitions(r.ctx, &pb.ListTaskDefinitionsRequest{Sort: pb.SortOrder_SORT_ORDER_DESC, NextToken: next}))
	if diff := cmp.Diff(arns("web:1"), rest.GetTaskDefinitionArns()); diff != "" {
		t.Error(diff)
	}
	for in, want := range map[string][]string{
		`{}`: {"old", "web", "webby"}, `{"status":"ACTIVE"}`: {"web", "webby"}, `{"status":"INACTIVE"}`: {"old"},
		`{"familyPrefix":"webb","status":"ALL"}`: {"webby"},
	} {
		got := must(r.ListTaskDefinitionFamilies(r.ctx, read(t, in, &pb.ListTaskDefinitionFamiliesRequest{})))
		if diff := cmp.Diff(want, got.GetFamilies()); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
}

func TestDeregisteredTaskDefinitionStartsNothing(t *testing.T) {
	r := newRig(t)
	r.register("web")
	first := must(r.DeregisterTaskDefinition(r.ctx, &pb.DeregisterTaskDefinitionRequest{TaskDefinition: "web:1"})).GetTaskDefinition()
	if first.GetStatus() != pb.TaskDefinitionStatus_TASK_DEFINITION_STATUS_INACTIVE || first.GetDeregisteredAt() == nil {
		t.Errorf("got %v", first)
	}
	again := must(r.DeregisterTaskDefinition(r.ctx, &pb.DeregisterTaskDefinitionRequest{TaskDefinition: prefix + "task-definition/web:1"})).GetTaskDefinition()
	if !proto.Equal(first, again) {
		t.Error("a second time changed it")
	}
	_, err := r.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: "web:1"})
	refused(t, err, apierror.Client, "INACTIVE")
	_, err = r.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: "web"})
	refused(t, err, apierror.Client, "no ACTIVE revision")
	_, err = r.DeregisterTaskDefinition(r.ctx, &pb.DeregisterTaskDefinitionRequest{TaskDefinition: "web"})
	refused(t, err, apierror.Client, "no revision")
}

func TestTaskDefinitionsAreDeletedOnceNothingUsesThem(t *testing.T) {
	r := newRig(t)
	for range 4 {
		r.register("web")
	}
	must(r.CreateService(r.ctx, read(t, `{"serviceName":"s","taskDefinition":"web:2","desiredCount":1}`, &pb.CreateServiceRequest{})))
	r.serviceTask("t1", "", "", "RUNNING") // of web:1
	for _, n := range []int{1, 2, 4} {
		must(r.DeregisterTaskDefinition(r.ctx, &pb.DeregisterTaskDefinitionRequest{TaskDefinition: fmt.Sprintf("web:%d", n)}))
	}
	res := must(r.DeleteTaskDefinitions(r.ctx, &pb.DeleteTaskDefinitionsRequest{TaskDefinitions: []string{"web:1", "web:2", "web:3", "web:4", "web:4", "web:9"}}))
	var reasons []string
	for _, f := range res.GetFailures() {
		reasons = append(reasons, f.GetReason())
	}
	if diff := cmp.Diff([]string{"IN_USE", "IN_USE", "ACTIVE", "MISSING"}, reasons); diff != "" {
		t.Error(diff)
	}
	if d := res.GetTaskDefinitions(); len(d) != 1 || d[0].GetRevision() != 4 || d[0].GetDeleteRequestedAt() == nil {
		t.Errorf("got %v", d)
	}
	if def := r.register("web"); def.GetRevision() != 5 {
		t.Errorf("revision %d was given twice", def.GetRevision())
	}
	_, err := r.DeleteTaskDefinitions(r.ctx, &pb.DeleteTaskDefinitionsRequest{})
	refused(t, err, apierror.InvalidParameter, "taskDefinitions")
}
