package api

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/api/validate"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// DescribeServices describes services, deleted ones too while they are kept.
func (a *API) DescribeServices(_ context.Context, r *pb.DescribeServicesRequest) (*pb.DescribeServicesResponse, error) {
	if err := atMost("services", len(r.GetServices()), 10); err != nil {
		return nil, err
	}
	snap := a.cfg.Store.Snapshot()
	cluster, err := a.cluster(snap, r.GetCluster())
	if err != nil {
		return nil, err
	}
	res := &pb.DescribeServicesResponse{}
	for _, s := range r.GetServices() {
		found, err := a.service(snap, cluster, s)
		if err != nil {
			res.Failures = append(res.Failures, a.missingIn(cluster, arnService, s))
			continue
		}
		res.Services = append(res.Services, serviceView(snap, cluster, found, slices.Contains(r.GetInclude(), pb.ServiceField_SERVICE_FIELD_TAGS)))
	}
	return res, nil
}

// ListServices lists the ARNs of services that are not INACTIVE.
func (a *API) ListServices(_ context.Context, r *pb.ListServicesRequest) (*pb.ListServicesResponse, error) {
	if err := invalid(validate.ListServices(r)); err != nil {
		return nil, err
	}
	snap := a.cfg.Store.Snapshot()
	cluster, err := a.cluster(snap, r.GetCluster())
	if err != nil {
		return nil, err
	}
	var items []item
	for s := range snap.Services(cluster) {
		v := s.Record.GetService()
		if serviceStatus(s) == statusInactive ||
			r.GetLaunchType() != pb.LaunchType_LAUNCH_TYPE_UNSPECIFIED && v.GetLaunchType() != r.GetLaunchType() ||
			r.GetSchedulingStrategy() != pb.SchedulingStrategy_SCHEDULING_STRATEGY_UNSPECIFIED && v.GetSchedulingStrategy() != r.GetSchedulingStrategy() {
			continue
		}
		items = append(items, item{v.GetServiceName(), v.GetServiceArn()})
	}
	arns, next, err := page("ListServices", items, false, r.GetNextToken(), r.MaxResults)
	if err != nil {
		return nil, err
	}
	return &pb.ListServicesResponse{ServiceArns: arns, NextToken: next}, nil
}

// describedService is the view of a service that a write has just named, with
// its tags.
func describedService(snap *model.Snapshot, cluster, name string) *pb.Service {
	s, ok := snap.Service(cluster, name)
	if !ok {
		return nil
	}
	return serviceView(snap, cluster, s, true)
}

// count is how many tasks of something run, and how many are on their way.
type count struct{ running, pending int32 }

// serviceView is a service as it is described: what was asked for, the
// reconciler's deployments and events, and counts over the tasks.
func serviceView(snap *model.Snapshot, cluster string, s *model.Service, tags bool) *pb.Service {
	v := proto.CloneOf(s.Record.GetService())
	v.Status = serviceStatus(s)
	if !tags {
		v.Tags = nil
	}
	counts := map[string]*count{}
	for t := range snap.TasksOfService(cluster, v.GetServiceName()) {
		c := counts[t.Record.GetDeploymentId()]
		if c == nil {
			c = &count{}
			counts[t.Record.GetDeploymentId()] = c
		}
		switch last := t.LastStatus(); {
		case last == taskstate.Running:
			c.running++
			v.RunningCount++
		case last.Starting():
			c.pending++
			v.PendingCount++
		}
	}
	v.TaskDefinition = runningDefinition(s)
	for _, e := range s.Status.GetEvents() {
		v.Events = append(v.Events, proto.CloneOf(e))
	}
	if v.GetStatus() == statusInactive {
		return v
	}
	v.Deployments = deployments(s)
	for _, d := range v.GetDeployments() {
		if d.GetStatus() == "PRIMARY" && isDaemon(v.GetSchedulingStrategy()) {
			v.DesiredCount = d.GetDesiredCount()
		}
		d.RunningCount, d.PendingCount = 0, 0
		if c := counts[d.GetId()]; c != nil {
			d.RunningCount, d.PendingCount = c.running, c.pending
		}
	}
	return v
}

// deployments are the reconciler's, and before them the one that was asked for
// and that the reconciler has not seen yet.
func deployments(s *model.Service) []*pb.Deployment {
	var out []*pb.Deployment
	for _, d := range s.Status.GetDeployments() {
		out = append(out, proto.CloneOf(d.GetDeployment()))
	}
	if seen(s) {
		return out
	}
	for _, d := range out {
		if d.GetStatus() == "PRIMARY" {
			d.Status = "ACTIVE"
		}
	}
	service := s.Record.GetService()
	return slices.Insert(out, 0, &pb.Deployment{
		Id: s.Record.GetDeploymentId(), Status: "PRIMARY", TaskDefinition: service.GetTaskDefinition(),
		DesiredCount: service.GetDesiredCount(), LaunchType: service.GetLaunchType(),
		CreatedAt: s.Record.GetDeploymentCreatedAt(), UpdatedAt: s.Record.GetDeploymentCreatedAt(),
		RolloutState:       pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_IN_PROGRESS,
		RolloutStateReason: "ECS deployment " + s.Record.GetDeploymentId() + " in progress.",
	})
}

// seen says whether the reconciler has taken up the deployment that was asked
// for last.
func seen(s *model.Service) bool {
	return slices.ContainsFunc(s.Status.GetDeployments(), func(d *pb.DeploymentState) bool {
		return d.GetRequestedBy() == s.Record.GetDeploymentId()
	})
}

// runningDefinition is the ARN of the task definition that the service is to
// run: the one asked for, or the one that its deployment was rolled back to.
func runningDefinition(s *model.Service) string {
	if seen(s) {
		for _, d := range s.Status.GetDeployments() {
			if d.GetDeployment().GetStatus() == "PRIMARY" && d.GetRequestedBy() == s.Record.GetDeploymentId() {
				return d.GetDeployment().GetTaskDefinition()
			}
		}
	}
	return s.Record.GetService().GetTaskDefinition()
}
