package api_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestContainerInstanceIsDescribed(t *testing.T) {
	r := newRig(t)
	r.register("web")
	arn := r.host("h1")
	must(r.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: "web"}))
	res := must(r.DescribeContainerInstances(r.ctx, &pb.DescribeContainerInstancesRequest{ContainerInstances: []string{"h1", arn, "nope", prefix + "container-instance/other/h1"}}))
	if len(res.GetContainerInstances()) != 2 || len(res.GetFailures()) != 2 || res.GetFailures()[0].GetReason() != "MISSING" {
		t.Fatalf("got %v", res)
	}
	i := res.GetContainerInstances()[0]
	if i.GetStatus() != "ACTIVE" || !i.GetAgentConnected() || i.GetPendingTasksCount() != 1 || i.GetRunningTasksCount() != 0 || i.GetVersion() == 0 {
		t.Errorf("got %v", i)
	}
	want := []*pb.Resource{
		{Name: "CPU", Type: "INTEGER", IntegerValue: 924}, {Name: "MEMORY", Type: "INTEGER", IntegerValue: 896},
		{Name: "PORTS", Type: "STRINGSET", StringSetValue: []string{"22", "8080"}}, {Name: "PORTS_UDP", Type: "STRINGSET"},
	}
	if diff := cmp.Diff(want, i.GetRemainingResources(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if i.GetRegisteredResources()[0].GetIntegerValue() != 1024 {
		t.Error("registered resources changed")
	}
	_, err := r.DescribeContainerInstances(r.ctx, &pb.DescribeContainerInstancesRequest{})
	refused(t, err, apierror.InvalidParameter, "containerInstances")
}

func TestContainerInstancesAreListedByStatusAndFilter(t *testing.T) {
	r := newRig(t)
	arns := map[string]string{}
	for _, id := range []string{"h1", "h2", "h3", "h4"} {
		arns[id] = r.host(id)
	}
	must(r.UpdateContainerInstancesState(r.ctx, read(t, `{"containerInstances":["h2"],"status":"DRAINING"}`, &pb.UpdateContainerInstancesStateRequest{})))
	must(r.DeregisterContainerInstance(r.ctx, &pb.DeregisterContainerInstanceRequest{ContainerInstance: "h4"}))
	must(r.PutAttributes(r.ctx, read(t, `{"attributes":[{"name":"rack","value":"a","targetId":"h3"}]}`, &pb.PutAttributesRequest{})))
	for in, want := range map[string][]string{
		`{}`: {"h1", "h2", "h3"}, `{"status":"ACTIVE"}`: {"h1", "h3"}, `{"status":"DRAINING"}`: {"h2"}, `{"status":"REGISTERING"}`: nil,
		`{"filter":"attribute:rack == a"}`: {"h3"}, `{"filter":"agentConnected == true","status":"DRAINING"}`: {"h2"},
	} {
		var ids []string
		for _, arn := range must(r.ListContainerInstances(r.ctx, read(t, in, &pb.ListContainerInstancesRequest{}))).GetContainerInstanceArns() {
			for id, a := range arns {
				if a == arn {
					ids = append(ids, id)
				}
			}
		}
		if diff := cmp.Diff(want, ids); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
	_, err := r.ListContainerInstances(r.ctx, &pb.ListContainerInstancesRequest{Filter: "rack =="})
	refused(t, err, apierror.InvalidParameter, "filter")
}

func TestDrainingAndActivating(t *testing.T) {
	r := newRig(t)
	r.host("h1")
	r.host("gone")
	must(r.DeregisterContainerInstance(r.ctx, &pb.DeregisterContainerInstanceRequest{ContainerInstance: "gone"}))
	res := must(r.UpdateContainerInstancesState(r.ctx, read(t, `{"containerInstances":["h1","h1","gone","nope"],"status":"DRAINING"}`, &pb.UpdateContainerInstancesStateRequest{})))
	if len(res.GetContainerInstances()) != 1 || res.GetContainerInstances()[0].GetStatus() != "DRAINING" {
		t.Errorf("got %v", res)
	}
	if f := res.GetFailures(); len(f) != 2 || f[0].GetReason() != "INACTIVE" || f[1].GetReason() != "MISSING" {
		t.Errorf("got %v", f)
	}
	res = must(r.UpdateContainerInstancesState(r.ctx, read(t, `{"containerInstances":["h1"],"status":"ACTIVE"}`, &pb.UpdateContainerInstancesStateRequest{})))
	if res.GetContainerInstances()[0].GetStatus() != "ACTIVE" {
		t.Errorf("got %v", res)
	}
	for _, in := range []string{`{"containerInstances":["h1"]}`, `{"containerInstances":["h1"],"status":"REGISTERING"}`, `{"status":"ACTIVE"}`} {
		_, err := r.UpdateContainerInstancesState(r.ctx, read(t, in, &pb.UpdateContainerInstancesStateRequest{}))
		refused(t, err, apierror.InvalidParameter, "")
	}
}

func TestDeregistrationWithTasksNeedsForce(t *testing.T) {
	r := newRig(t)
	r.register("web")
	r.host("h1")
	must(r.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: "web"}))
	_, err := r.DeregisterContainerInstance(r.ctx, &pb.DeregisterContainerInstanceRequest{ContainerInstance: "h1"})
	refused(t, err, apierror.InvalidParameter, "Found running tasks on the instance.")
	for range 2 {
		i := must(r.DeregisterContainerInstance(r.ctx, &pb.DeregisterContainerInstanceRequest{ContainerInstance: "h1", Force: proto.Bool(true)})).GetContainerInstance()
		if i.GetStatus() != "INACTIVE" {
			t.Errorf("got %v", i)
		}
	}
	_, err = r.DeregisterContainerInstance(r.ctx, &pb.DeregisterContainerInstanceRequest{ContainerInstance: "nope"})
	refused(t, err, apierror.InvalidParameter, "nope")
}

func TestAttributes(t *testing.T) {
	r := newRig(t)
	h1 := r.host("h1")
	h2 := r.host("h2")
	put := must(r.PutAttributes(r.ctx, read(t, `{"attributes":[{"name":"rack","value":"a","targetId":"h1"},{"name":"rack","value":"b","targetId":"`+h2+`"},{"name":"flag","targetType":"container-instance","targetId":"h1"}]}`, &pb.PutAttributesRequest{})))
	if len(put.GetAttributes()) != 3 || put.GetAttributes()[0].GetTargetId() != h1 {
		t.Errorf("got %v", put)
	}
	must(r.PutAttributes(r.ctx, read(t, `{"attributes":[{"name":"rack","value":"c","targetId":"h1"}]}`, &pb.PutAttributesRequest{})))
	list := func(more string) (got []string) {
		for _, at := range must(r.ListAttributes(r.ctx, read(t, `{"targetType":"container-instance"`+more+`}`, &pb.ListAttributesRequest{}))).GetAttributes() {
			got = append(got, at.GetTargetId()[len(prefix+"container-instance/default/"):]+" "+at.GetName()+"="+at.GetValue())
		}
		return got
	}
	if diff := cmp.Diff([]string{"h1 rack=c", "h2 rack=b"}, list(`,"attributeName":"rack"`)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"h2 rack=b"}, list(`,"attributeName":"rack","attributeValue":"b"`)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"h1 ecs.availability-zone=zone-a", "h1 ecs.os-type=linux"}, list(`,"maxResults":2`)); diff != "" {
		t.Error(diff)
	}
	must(r.DeleteAttributes(r.ctx, read(t, `{"attributes":[{"name":"rack","value":"not c","targetId":"h1"},{"name":"rack","targetId":"h2"}]}`, &pb.DeleteAttributesRequest{})))
	if diff := cmp.Diff([]string{"h1 rack=c"}, list(`,"attributeName":"rack"`)); diff != "" {
		t.Error(diff)
	}
	for in, want := range map[string]apierror.Exception{
		`{"attributes":[{"name":"a","targetId":"nope"}]}`:         apierror.TargetNotFound,
		`{"attributes":[{"name":"ecs.os-type","targetId":"h1"}]}`: apierror.InvalidParameter,
		`{"attributes":[]}`: apierror.InvalidParameter,
	} {
		_, err := r.PutAttributes(r.ctx, read(t, in, &pb.PutAttributesRequest{}))
		refused(t, err, want, "")
	}
	for n := range 9 {
		_, err := r.PutAttributes(r.ctx, read(t, fmt.Sprintf(`{"attributes":[{"name":"n%d","targetId":"h1"}]}`, n), &pb.PutAttributesRequest{}))
		if n < 8 && err != nil {
			t.Fatal(err)
		}
		if n == 8 {
			refused(t, err, apierror.AttributeLimitExceeded, "more than 10")
		}
	}
	_, err := r.ListAttributes(r.ctx, &pb.ListAttributesRequest{})
	refused(t, err, apierror.InvalidParameter, "targetType")
	_, err = r.ListAttributes(r.ctx, read(t, `{"targetType":"container-instance","attributeValue":"x"}`, &pb.ListAttributesRequest{}))
	refused(t, err, apierror.InvalidParameter, "attributeName")
}

func TestTagsOfEveryKindOfResource(t *testing.T) {
	r := newRig(t)
	def := r.register("web")
	host := r.host("h1")
	task := must(r.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: "web"})).GetTasks()[0].GetTaskArn()
	service := r.create(`{"serviceName":"s","taskDefinition":"web","desiredCount":0}`).GetServiceArn()
	tags := func(arn string) map[string]string {
		got := map[string]string{}
		for _, tag := range must(r.ListTagsForResource(r.ctx, &pb.ListTagsForResourceRequest{ResourceArn: arn})).GetTags() {
			got[tag.GetKey()] = tag.GetValue()
		}
		return got
	}
	must(r.UntagResource(r.ctx, &pb.UntagResourceRequest{ResourceArn: def.GetTaskDefinitionArn(), TagKeys: []string{"from"}}))
	for _, arn := range []string{prefix + "cluster/default", def.GetTaskDefinitionArn(), service, task, host} {
		for _, v := range []string{"1", "2"} {
			must(r.TagResource(r.ctx, &pb.TagResourceRequest{ResourceArn: arn, Tags: []*pb.Tag{{Key: "k", Value: v}, {Key: "x" + v}}}))
		}
		if diff := cmp.Diff(map[string]string{"k": "2", "x1": "", "x2": ""}, tags(arn)); diff != "" {
			t.Errorf("%s: %s", arn, diff)
		}
		must(r.UntagResource(r.ctx, &pb.UntagResourceRequest{ResourceArn: arn, TagKeys: []string{"k", "nope"}}))
		if got := tags(arn); len(got) != 2 {
			t.Errorf("%s: %v", arn, got)
		}
	}
	for _, arn := range []string{"", "web", prefix + "cluster/x", prefix + "service/default/x", prefix + "task/default/x", prefix + "container-instance/default/x", prefix + "task-definition/web", "arn:aws:s3:::x"} {
		_, err := r.TagResource(r.ctx, &pb.TagResourceRequest{ResourceArn: arn, Tags: []*pb.Tag{{Key: "k"}}})
		refused(t, err, apierror.ResourceNotFound, "does not exist")
	}
	var many []*pb.Tag
	for n := range 50 {
		many = append(many, &pb.Tag{Key: fmt.Sprintf("n%d", n)})
	}
	_, err := r.TagResource(r.ctx, &pb.TagResourceRequest{ResourceArn: service, Tags: many})
	refused(t, err, apierror.LimitExceeded, "at most 50")
	_, err = r.TagResource(r.ctx, &pb.TagResourceRequest{ResourceArn: service, Tags: []*pb.Tag{{Key: "aws:k"}}})
	refused(t, err, apierror.InvalidParameter, "aws:")
	r.notLeader = errors.New("this replica does not lead")
	_, err = r.TagResource(r.ctx, &pb.TagResourceRequest{ResourceArn: task, Tags: []*pb.Tag{{Key: "k"}}})
	refused(t, err, apierror.Server, "does not lead")
	if _, err = r.TagResource(r.ctx, &pb.TagResourceRequest{ResourceArn: service, Tags: []*pb.Tag{{Key: "k"}}}); err != nil {
		t.Errorf("only tasks are the leader's to write: %v", err)
	}
}
