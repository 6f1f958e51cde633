package api

import (
	"context"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/api/validate"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// CreateCluster creates a cluster, or answers the one that has that name.
func (a *API) CreateCluster(ctx context.Context, r *pb.CreateClusterRequest) (*pb.CreateClusterResponse, error) {
	if err := invalid(validate.CreateCluster(r)); err != nil {
		return nil, err
	}
	name := r.GetClusterName()
	if name == "" {
		name = "default"
	}
	snap, err := a.commit(ctx, "create cluster "+name, func(snap *model.Snapshot) (model.Batch, error) {
		if _, ok := snap.Clusters().Get(name); ok {
			return nil, nil
		}
		return model.Batch{{Key: clusterKey(name), Value: &pb.ClusterRecord{Cluster: &pb.Cluster{
			ClusterArn: a.arn(arnCluster, name), ClusterName: name, Status: "ACTIVE",
			Tags: r.GetTags(), Settings: r.GetSettings(),
		}}}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.CreateClusterResponse{Cluster: clusterView(snap, name, []pb.ClusterField{pb.ClusterField_CLUSTER_FIELD_SETTINGS, pb.ClusterField_CLUSTER_FIELD_TAGS})}, nil
}

// DescribeClusters describes clusters; "default" when none is named.
func (a *API) DescribeClusters(_ context.Context, r *pb.DescribeClustersRequest) (*pb.DescribeClustersResponse, error) {
	snap := a.cfg.Store.Snapshot()
	names := r.GetClusters()
	if len(names) == 0 {
		names = []string{"default"}
	}
	if err := atMost("clusters", len(names), 100); err != nil {
		return nil, err
	}
	res := &pb.DescribeClustersResponse{}
	for _, s := range names {
		name, err := a.cluster(snap, s)
		if err != nil {
			res.Failures = append(res.Failures, a.missing(arnCluster, s))
			continue
		}
		res.Clusters = append(res.Clusters, clusterView(snap, name, r.GetInclude()))
	}
	return res, nil
}

// ListClusters lists clusters' ARNs.
func (a *API) ListClusters(_ context.Context, r *pb.ListClustersRequest) (*pb.ListClustersResponse, error) {
	var items []item
	for name := range a.cfg.Store.Snapshot().Clusters().All() {
		items = append(items, item{name, a.arn(arnCluster, name)})
	}
	arns, next, err := page("ListClusters", items, false, r.GetNextToken(), r.MaxResults)
	if err != nil {
		return nil, err
	}
	return &pb.ListClustersResponse{ClusterArns: arns, NextToken: next}, nil
}

// UpdateCluster changes a cluster's settings and configuration.
func (a *API) UpdateCluster(ctx context.Context, r *pb.UpdateClusterRequest) (*pb.UpdateClusterResponse, error) {
	if err := invalid(validate.UpdateCluster(r)); err != nil {
		return nil, err
	}
	c, err := a.updateSettings(ctx, r.GetCluster(), r.GetSettings())
	if err != nil {
		return nil, err
	}
	return &pb.UpdateClusterResponse{Cluster: c}, nil
}

// UpdateClusterSettings changes a cluster's settings.
func (a *API) UpdateClusterSettings(ctx context.Context, r *pb.UpdateClusterSettingsRequest) (*pb.UpdateClusterSettingsResponse, error) {
	if err := invalid(validate.UpdateClusterSettings(r)); err != nil {
		return nil, err
	}
	c, err := a.updateSettings(ctx, r.GetCluster(), r.GetSettings())
	if err != nil {
		return nil, err
	}
	return &pb.UpdateClusterSettingsResponse{Cluster: c}, nil
}

// updateSettings puts the settings in place of those that have their names.
func (a *API) updateSettings(ctx context.Context, cluster string, settings []*pb.ClusterSetting) (*pb.Cluster, error) {
	var name string
	snap, err := a.commit(ctx, "update cluster "+cluster, func(snap *model.Snapshot) (batch model.Batch, err error) {
		if name, err = a.cluster(snap, cluster); err != nil {
			return nil, err
		}
		row, _ := snap.Clusters().Get(name)
		record := proto.CloneOf(row.Value)
		for _, s := range settings {
			record.Cluster.Settings = append(slices.DeleteFunc(record.Cluster.Settings, func(o *pb.ClusterSetting) bool { return o.GetName() == s.GetName() }), s)
		}
		if proto.Equal(record, row.Value) {
			return nil, nil
		}
		return model.Batch{{Key: clusterKey(name), Value: record, If: row.Revision}}, nil
	})
	if err != nil {
		return nil, err
	}
	return clusterView(snap, name, []pb.ClusterField{pb.ClusterField_CLUSTER_FIELD_SETTINGS}), nil
}

// DeleteCluster deletes an empty cluster.
func (a *API) DeleteCluster(ctx context.Context, r *pb.DeleteClusterRequest) (*pb.DeleteClusterResponse, error) {
	if r.GetCluster() == "" {
		return nil, apierror.New(apierror.InvalidParameter, "cluster: required: give a name or ARN")
	}
	var view *pb.Cluster
	_, err := a.commit(ctx, "delete cluster "+r.GetCluster(), func(snap *model.Snapshot) (model.Batch, error) {
		name, err := a.cluster(snap, r.GetCluster())
		if err != nil {
			return nil, err
		}
		if err := empty(snap, name); err != nil {
			return nil, err
		}
		view = clusterView(snap, name, nil)
		view.Status = "INACTIVE"
		row, _ := snap.Clusters().Get(name)
		return model.Batch{{Key: clusterKey(name), If: row.Revision}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.DeleteClusterResponse{Cluster: view}, nil
}

// empty says what is still in a cluster.
func empty(snap *model.Snapshot, cluster string) error {
	for s := range snap.Services(cluster) {
		if status := serviceStatus(s); status != statusInactive {
			return apierror.New(apierror.ClusterContainsServices, "cluster %q has service %q (%s): delete its services first", cluster, s.Record.GetService().GetServiceName(), status)
		}
	}
	for i := range snap.Instances(cluster) {
		if i.Status() != model.InstanceInactive {
			return apierror.New(apierror.ClusterContainsContainerInstances, "cluster %q has container instance %s: deregister its container instances first", cluster, i.Record.GetId())
		}
	}
	for t := range snap.Tasks(cluster) {
		if !t.Stopped() {
			return apierror.New(apierror.ClusterContainsTasks, "cluster %q has task %s: stop its tasks first", cluster, t.Record.GetId())
		}
	}
	return nil
}

// clusterView is a cluster as it is described.
func clusterView(snap *model.Snapshot, name string, include []pb.ClusterField) *pb.Cluster {
	row, _ := snap.Clusters().Get(name)
	v := proto.CloneOf(row.Value.GetCluster())
	var draining int32
	for i := range snap.Instances(name) {
		if i.Status() != model.InstanceInactive {
			v.RegisteredContainerInstancesCount++
		}
	}
	for t := range snap.Tasks(name) {
		switch last := t.LastStatus(); {
		case last == taskstate.Running:
			v.RunningTasksCount++
		case last.Starting():
			v.PendingTasksCount++
		}
	}
	for s := range snap.Services(name) {
		switch serviceStatus(s) {
		case statusActive:
			v.ActiveServicesCount++
		case statusDraining:
			draining++
		}
	}
	if !slices.Contains(include, pb.ClusterField_CLUSTER_FIELD_SETTINGS) {
		v.Settings = nil
	}
	if !slices.Contains(include, pb.ClusterField_CLUSTER_FIELD_TAGS) {
		v.Tags = nil
	}
	if slices.Contains(include, pb.ClusterField_CLUSTER_FIELD_STATISTICS) {
		for _, s := range []struct {
			name  string
			value int32
		}{
			{"runningEC2TasksCount", v.GetRunningTasksCount()}, {"pendingEC2TasksCount", v.GetPendingTasksCount()},
			{"activeEC2ServiceCount", v.GetActiveServicesCount()}, {"drainingEC2ServiceCount", draining},
		} {
			v.Statistics = append(v.Statistics, &pb.KeyValuePair{Name: s.name, Value: strconv.Itoa(int(s.value))})
		}
	}
	return v
}

func clusterKey(name string) model.Key { return model.Key{Kind: model.KindCluster, ID: name} }

// missing is the failure of something that a Describe did not find.
func (a *API) missing(kind, s string) *pb.Failure {
	if _, id, ok := a.resolve(kind, s); ok && id == s {
		s = a.arn(kind, s)
	}
	return &pb.Failure{Arn: s, Reason: "MISSING"}
}

// atMost bounds how many things one call may name, and wants one at least.
func atMost(member string, n, most int) error {
	if n < 1 || n > most {
		return apierror.New(apierror.InvalidParameter, "%s: there are %d: give 1 to %d", member, n, most)
	}
	return nil
}

// invalid turns a validation's error into the API's.
func invalid(err error) error {
	if err == nil {
		return nil
	}
	return apierror.New(apierror.InvalidParameter, "%s", err)
}
