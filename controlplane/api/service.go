package api

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/api/validate"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// The statuses of a service.
const (
	statusActive   = "ACTIVE"
	statusDraining = "DRAINING"
	statusInactive = "INACTIVE"
)

// serviceStatus is ACTIVE, DRAINING once the service is deleted, INACTIVE once
// its last task is gone.
func serviceStatus(s *model.Service) string {
	if s.Record.GetService().GetStatus() == statusDraining && s.Status.GetInactive() {
		return statusInactive
	}
	return s.Record.GetService().GetStatus()
}

// CreateService creates a service.
func (a *API) CreateService(ctx context.Context, r *pb.CreateServiceRequest) (*pb.CreateServiceResponse, error) {
	if err := invalid(validate.CreateService(r)); err != nil {
		return nil, err
	}
	deployment, err := deploymentConfiguration(nil, r.GetDeploymentConfiguration(), isDaemon(r.GetSchedulingStrategy()))
	if err != nil {
		return nil, err
	}
	name := r.GetServiceName()
	var cluster string
	snap, err := a.commit(ctx, "create service "+name, func(snap *model.Snapshot) (batch model.Batch, err error) {
		if cluster, err = a.cluster(snap, r.GetCluster()); err != nil {
			return nil, err
		}
		def, err := a.startable(snap, r.GetTaskDefinition())
		if err != nil {
			return nil, err
		}
		old, exists := snap.Service(cluster, name)
		if exists && serviceStatus(old) != statusInactive {
			return nil, notIdempotent(old, r, def.GetTaskDefinition().GetTaskDefinitionArn())
		}
		if !exists {
			old = &model.Service{}
		}
		now := timestamppb.New(a.cfg.Now())
		batch = model.Batch{{
			Key: serviceKey(cluster, name),
			Value: &pb.ServiceRecord{
				Service:      a.newService(cluster, r, def.GetTaskDefinition(), deployment, now),
				DeploymentId: newDeploymentID(), DeploymentCreatedAt: now, ClientToken: r.GetClientToken(),
			},
			If: old.RecordRevision,
		}}
		if old.Status != nil {
			batch = append(batch, model.Write{Key: model.Key{Kind: model.KindServiceStatus, Cluster: cluster, ID: name}, If: old.StatusRevision})
		}
		return batch, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.CreateServiceResponse{Service: describedService(snap, cluster, name)}, nil
}

// notIdempotent is the error of a creation under a name that is taken, nil if
// that service was created by the same request.
func notIdempotent(old *model.Service, r *pb.CreateServiceRequest, definition string) error {
	s := old.Record.GetService()
	switch {
	case serviceStatus(old) == statusDraining:
		return apierror.New(apierror.InvalidParameter, "Unable to Start a service that is still Draining. Wait until service %q is INACTIVE, or give another name.", s.GetServiceName())
	case r.GetClientToken() == "" || r.GetClientToken() != old.Record.GetClientToken() || s.GetTaskDefinition() != definition:
		return apierror.New(apierror.InvalidParameter, "Creation of service was not idempotent. Service %q exists: update it, or give another name.", s.GetServiceName())
	}
	return nil
}

// newService is the service that a creation describes.
func (a *API) newService(cluster string, r *pb.CreateServiceRequest, def *pb.TaskDefinition, d *pb.DeploymentConfiguration, now *timestamppb.Timestamp) *pb.Service {
	r = proto.CloneOf(r)
	s := &pb.Service{
		ServiceArn: a.arn(arnService, cluster, r.GetServiceName()), ServiceName: r.GetServiceName(),
		ClusterArn: a.arn(arnCluster, cluster), Status: statusActive, DesiredCount: r.GetDesiredCount(),
		LaunchType: pb.LaunchType_LAUNCH_TYPE_EC2, TaskDefinition: def.GetTaskDefinitionArn(),
		DeploymentConfiguration: d, CreatedAt: now,
		PlacementConstraints: r.GetPlacementConstraints(), PlacementStrategy: r.GetPlacementStrategy(),
		SchedulingStrategy:   r.GetSchedulingStrategy(),
		DeploymentController: &pb.DeploymentController{Type: pb.DeploymentControllerType_DEPLOYMENT_CONTROLLER_TYPE_ECS},
		Tags:                 r.GetTags(), EnableEcsManagedTags: r.GetEnableEcsManagedTags(), PropagateTags: r.GetPropagateTags(),
		AvailabilityZoneRebalancing: pb.AvailabilityZoneRebalancing_AVAILABILITY_ZONE_REBALANCING_DISABLED,
	}
	if s.GetSchedulingStrategy() == pb.SchedulingStrategy_SCHEDULING_STRATEGY_UNSPECIFIED {
		s.SchedulingStrategy = pb.SchedulingStrategy_SCHEDULING_STRATEGY_REPLICA
	}
	if s.GetPropagateTags() == pb.PropagateTags_PROPAGATE_TAGS_UNSPECIFIED {
		s.PropagateTags = pb.PropagateTags_PROPAGATE_TAGS_NONE
	}
	return s
}

// deploymentConfiguration is the old configuration (nil: ECS's defaults) with
// what is given in place of its members.
func deploymentConfiguration(old, given *pb.DeploymentConfiguration, daemon bool) (*pb.DeploymentConfiguration, error) {
	d := &pb.DeploymentConfiguration{
		DeploymentCircuitBreaker: &pb.DeploymentCircuitBreaker{},
		MaximumPercent:           proto.Int32(200), MinimumHealthyPercent: proto.Int32(100),
		Strategy: pb.DeploymentStrategy_DEPLOYMENT_STRATEGY_ROLLING,
	}
	if daemon {
		d.MaximumPercent, d.MinimumHealthyPercent = proto.Int32(100), proto.Int32(0)
	}
	if old != nil {
		d = proto.CloneOf(old)
	}
	if b := given.GetDeploymentCircuitBreaker(); b != nil {
		d.DeploymentCircuitBreaker = b
	}
	if given != nil && given.MaximumPercent != nil {
		d.MaximumPercent = given.MaximumPercent
	}
	if given != nil && given.MinimumHealthyPercent != nil {
		d.MinimumHealthyPercent = given.MinimumHealthyPercent
	}
	return d, invalid(validate.Percents(d))
}

// UpdateService changes a service. Another task definition, or
// forceNewDeployment, starts a deployment; everything else does not.
func (a *API) UpdateService(ctx context.Context, r *pb.UpdateServiceRequest) (*pb.UpdateServiceResponse, error) {
	var cluster, name string
	snap, err := a.commit(ctx, "update service "+r.GetService(), func(snap *model.Snapshot) (batch model.Batch, err error) {
		if cluster, err = a.cluster(snap, r.GetCluster()); err != nil {
			return nil, err
		}
		old, err := a.service(snap, cluster, r.GetService())
		if err != nil {
			return nil, err
		}
		name = old.Record.GetService().GetServiceName()
		if status := serviceStatus(old); status != statusActive {
			return nil, apierror.New(apierror.ServiceNotActive, "service %q is %s: create it anew", name, status)
		}
		record, err := a.updated(snap, old, r)
		if err != nil || proto.Equal(record, old.Record) {
			return nil, err
		}
		return model.Batch{{Key: serviceKey(cluster, name), Value: record, If: old.RecordRevision}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.UpdateServiceResponse{Service: describedService(snap, cluster, name)}, nil
}

// updated is the service's record after the update.
func (a *API) updated(snap *model.Snapshot, old *model.Service, r *pb.UpdateServiceRequest) (*pb.ServiceRecord, error) {
	record := proto.CloneOf(old.Record)
	s := record.Service
	daemon := isDaemon(s.GetSchedulingStrategy())
	if err := invalid(validate.UpdateService(r, daemon)); err != nil {
		return nil, err
	}
	r = proto.CloneOf(r)
	// A rollback leaves the service with another task definition than was asked
	// for; an update starts from what it has.
	current := runningDefinition(old)
	next := current
	if r.GetTaskDefinition() != "" {
		def, err := a.startable(snap, r.GetTaskDefinition())
		if err != nil {
			return nil, err
		}
		next = def.GetTaskDefinition().GetTaskDefinitionArn()
	}
	if next != current || r.GetForceNewDeployment() {
		s.TaskDefinition = next
		record.DeploymentId, record.DeploymentCreatedAt = newDeploymentID(), timestamppb.New(a.cfg.Now())
	}
	if r.DesiredCount != nil {
		s.DesiredCount = r.GetDesiredCount()
	}
	if r.GetDeploymentConfiguration() != nil {
		d, err := deploymentConfiguration(s.GetDeploymentConfiguration(), r.GetDeploymentConfiguration(), daemon)
		if err != nil {
			return nil, err
		}
		s.DeploymentConfiguration = d
	}
	if len(r.GetPlacementConstraints()) > 0 || slices.Contains(r.GetEmptyMembers(), "placementConstraints") {
		s.PlacementConstraints = r.GetPlacementConstraints()
	}
	if len(r.GetPlacementStrategy()) > 0 || slices.Contains(r.GetEmptyMembers(), "placementStrategy") {
		s.PlacementStrategy = r.GetPlacementStrategy()
	}
	if r.EnableEcsManagedTags != nil {
		s.EnableEcsManagedTags = r.GetEnableEcsManagedTags()
	}
	if r.GetPropagateTags() != pb.PropagateTags_PROPAGATE_TAGS_UNSPECIFIED {
		s.PropagateTags = r.GetPropagateTags()
	}
	return record, nil
}

// DeleteService deletes a service: DRAINING until its tasks are gone.
func (a *API) DeleteService(ctx context.Context, r *pb.DeleteServiceRequest) (*pb.DeleteServiceResponse, error) {
	var cluster, name string
	snap, err := a.commit(ctx, "delete service "+r.GetService(), func(snap *model.Snapshot) (batch model.Batch, err error) {
		if cluster, err = a.cluster(snap, r.GetCluster()); err != nil {
			return nil, err
		}
		old, err := a.service(snap, cluster, r.GetService())
		if err != nil {
			return nil, err
		}
		s := old.Record.GetService()
		if name = s.GetServiceName(); serviceStatus(old) != statusActive {
			return nil, nil
		}
		if s.GetDesiredCount() > 0 && !r.GetForce() {
			return nil, apierror.New(apierror.InvalidParameter, "The service cannot be stopped while it is scaled above 0. Service %q has desiredCount %d: set it to 0, or give force.", name, s.GetDesiredCount())
		}
		record := proto.CloneOf(old.Record)
		record.Service.Status, record.Service.DesiredCount = statusDraining, 0
		return model.Batch{{Key: serviceKey(cluster, name), Value: record, If: old.RecordRevision}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.DeleteServiceResponse{Service: describedService(snap, cluster, name)}, nil
}

// service finds a service of the cluster by name or ARN.
func (a *API) service(snap *model.Snapshot, cluster, s string) (*model.Service, error) {
	if s == "" {
		return nil, apierror.New(apierror.InvalidParameter, "service: required: give a name or ARN")
	}
	if name, ok := a.within(cluster, arnService, s); ok {
		if found, ok := snap.Service(cluster, name); ok {
			return found, nil
		}
	}
	return nil, apierror.New(apierror.ServiceNotFound, "service %q does not exist in cluster %q", s, cluster)
}

func isDaemon(s pb.SchedulingStrategy) bool {
	return s == pb.SchedulingStrategy_SCHEDULING_STRATEGY_DAEMON
}

func serviceKey(cluster, name string) model.Key {
	return model.Key{Kind: model.KindService, Cluster: cluster, ID: name}
}
