package api_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestClusterIsCreatedOnceAndDescribed(t *testing.T) {
	r := newRig(t)
	c := must(r.CreateCluster(r.ctx, read(t, `{"clusterName":"two","tags":[{"key":"a","value":"b"}]}`, &pb.CreateClusterRequest{}))).GetCluster()
	if c.GetClusterArn() != prefix+"cluster/two" || c.GetStatus() != "ACTIVE" || len(c.GetTags()) != 1 {
		t.Errorf("got %v", c)
	}
	again := must(r.CreateCluster(r.ctx, read(t, `{"clusterName":"two"}`, &pb.CreateClusterRequest{}))).GetCluster()
	if !proto.Equal(c, again) {
		t.Errorf("got %v, want the one that is there", again)
	}
	r.host("h1")
	r.serviceTask("t1", "web", "d", "RUNNING")
	r.serviceTask("t2", "web", "d", "")
	res := must(r.DescribeClusters(r.ctx, read(t, `{"clusters":["default","`+prefix+`cluster/two","three","arn:aws:ecs:eu-test-1:999999999999:cluster/two"],"include":["STATISTICS"]}`, &pb.DescribeClustersRequest{})))
	if len(res.GetClusters()) != 2 || len(res.GetFailures()) != 2 {
		t.Fatalf("got %v", res)
	}
	if d := res.GetClusters()[0]; d.GetRegisteredContainerInstancesCount() != 1 || d.GetRunningTasksCount() != 1 || d.GetPendingTasksCount() != 1 || len(d.GetStatistics()) == 0 {
		t.Errorf("got %v", d)
	}
	if d := res.GetClusters()[1]; len(d.GetTags()) != 0 {
		t.Errorf("tags were not asked for: %v", d)
	}
	if f := res.GetFailures()[0]; f.GetArn() != prefix+"cluster/three" || f.GetReason() != "MISSING" {
		t.Errorf("got %v", f)
	}
	if got := must(r.DescribeClusters(r.ctx, &pb.DescribeClustersRequest{})).GetClusters()[0].GetClusterName(); got != "default" {
		t.Errorf("no name describes %q", got)
	}
}

func TestClusterSettings(t *testing.T) {
	r := newRig(t)
	c := must(r.UpdateClusterSettings(r.ctx, read(t, `{"cluster":"default","settings":[{"name":"containerInsights","value":"disabled"}]}`, &pb.UpdateClusterSettingsRequest{}))).GetCluster()
	if len(c.GetSettings()) != 1 {
		t.Errorf("got %v", c)
	}
	c = must(r.UpdateCluster(r.ctx, read(t, `{"cluster":"default","settings":[{"name":"containerInsights","value":"disabled"}]}`, &pb.UpdateClusterRequest{}))).GetCluster()
	if len(c.GetSettings()) != 1 {
		t.Errorf("the same setting was added again: %v", c)
	}
	_, err := r.UpdateClusterSettings(r.ctx, &pb.UpdateClusterSettingsRequest{Cluster: "default"})
	refused(t, err, apierror.InvalidParameter, "settings: required")
	_, err = r.UpdateCluster(r.ctx, &pb.UpdateClusterRequest{Cluster: "nope"})
	refused(t, err, apierror.ClusterNotFound, `cluster "nope" does not exist`)
	_, err = r.CreateCluster(r.ctx, read(t, `{"capacityProviders":["x"]}`, &pb.CreateClusterRequest{}))
	refused(t, err, apierror.InvalidParameter, "capacityProviders")
}

func TestClusterIsDeletedOnceEmpty(t *testing.T) {
	r := newRig(t)
	del := func() (*pb.DeleteClusterResponse, error) {
		return r.DeleteCluster(r.ctx, &pb.DeleteClusterRequest{Cluster: "default"})
	}
	r.register("web")
	must(r.CreateService(r.ctx, read(t, `{"serviceName":"web","taskDefinition":"web","desiredCount":0}`, &pb.CreateServiceRequest{})))
	_, err := del()
	refused(t, err, apierror.ClusterContainsServices, `service "web"`)
	must(r.DeleteService(r.ctx, &pb.DeleteServiceRequest{Service: "web"}))
	_, err = del()
	refused(t, err, apierror.ClusterContainsServices, "DRAINING")
	r.put(model.KindServiceStatus, "web", &pb.ServiceStatusRecord{Inactive: true})
	r.host("h1")
	_, err = del()
	refused(t, err, apierror.ClusterContainsContainerInstances, "h1")
	must(r.DeregisterContainerInstance(r.ctx, &pb.DeregisterContainerInstanceRequest{ContainerInstance: "h1"}))
	r.serviceTask("t1", "", "", "RUNNING")
	_, err = del()
	refused(t, err, apierror.ClusterContainsTasks, "t1")
	r.report("t1", "STOPPED")
	if c := must(del()).GetCluster(); c.GetStatus() != "INACTIVE" {
		t.Errorf("got %v", c)
	}
	_, err = del()
	refused(t, err, apierror.ClusterNotFound, "default")
	_, err = r.DeleteCluster(r.ctx, &pb.DeleteClusterRequest{})
	refused(t, err, apierror.InvalidParameter, "cluster: required")
}

func TestListsArePaged(t *testing.T) {
	r := newRig(t)
	want := []string{prefix + "cluster/default"}
	for i := range 6 {
		name := fmt.Sprintf("e%d", i)
		must(r.CreateCluster(r.ctx, &pb.CreateClusterRequest{ClusterName: name}))
		want = append(want, prefix+"cluster/"+name)
	}
	var got []string
	token, pages := "", 0
	for {
		res := must(r.ListClusters(r.ctx, &pb.ListClustersRequest{MaxResults: proto.Int32(3), NextToken: token}))
		got = append(got, res.GetClusterArns()...)
		if pages++; pages == 1 { // what the token names may go
			must(r.DeleteCluster(r.ctx, &pb.DeleteClusterRequest{Cluster: "e1"}))
		}
		if token = res.GetNextToken(); token == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || pages != 3 {
		t.Errorf("%d pages: %s", pages, diff)
	}
	for _, bad := range []*pb.ListClustersRequest{{MaxResults: proto.Int32(0)}, {MaxResults: proto.Int32(101)}, {NextToken: "x"}, {NextToken: "%%"}} {
		_, err := r.ListClusters(r.ctx, bad)
		refused(t, err, apierror.InvalidParameter, "")
	}
	other := must(r.ListClusters(r.ctx, &pb.ListClustersRequest{MaxResults: proto.Int32(1)})).GetNextToken()
	_, err := r.ListServices(r.ctx, &pb.ListServicesRequest{NextToken: other})
	refused(t, err, apierror.InvalidParameter, "nextToken")
}

func TestFailuresOfTheStoreAreServerExceptions(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct {
		fault error
		code  codes.Code
	}{
		{store.ErrUnavailable, codes.Unavailable},
		{store.ErrFenced, codes.Unavailable},
		{store.ErrInvalid, codes.Internal},
		{errors.New("disk on fire"), codes.Unavailable},
	} {
		r.store.Fault(func(model.Batch) error { return tc.fault })
		_, err := r.CreateCluster(r.ctx, &pb.CreateClusterRequest{ClusterName: "x"})
		refused(t, err, apierror.Server, "create cluster x")
		if status.Code(err) != tc.code {
			t.Errorf("%v: code %v, want %v", tc.fault, status.Code(err), tc.code)
		}
	}
	r.store.Fault(nil)
	ctx, cancel := context.WithCancel(r.ctx)
	cancel()
	if _, err := r.CreateCluster(ctx, &pb.CreateClusterRequest{ClusterName: "x"}); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
}

// TestConflictsAreDecidedAgain has another writer be faster, every time at
// first and then for good.
func TestConflictsAreDecidedAgain(t *testing.T) {
	r := newRig(t)
	inner := false
	meddle := func(times int) {
		r.store.Fault(func(b model.Batch) error {
			if inner || times == 0 || b[0].Key.Kind != model.KindFamily {
				return nil
			}
			times--
			inner = true
			defer func() { inner = false }()
			r.register("web")
			return store.ErrConflict
		})
	}
	meddle(3)
	if def := r.register("web"); def.GetRevision() != 4 {
		t.Errorf("revision %d, want 4", def.GetRevision())
	}
	meddle(1000)
	_, err := r.RegisterTaskDefinition(r.ctx, read(t, `{"family":"web","containerDefinitions":[{"name":"a","image":"b","memory":6}]}`, &pb.RegisterTaskDefinitionRequest{}))
	refused(t, err, apierror.Server, "try again")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}
