package api

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/decide/placement"
	"github.com/plimsoll-project/plimsoll/controlplane/decide/query"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/proto/ecsjson"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// DescribeContainerInstances describes container instances.
func (a *API) DescribeContainerInstances(_ context.Context, r *pb.DescribeContainerInstancesRequest) (*pb.DescribeContainerInstancesResponse, error) {
	if err := atMost("containerInstances", len(r.GetContainerInstances()), 100); err != nil {
		return nil, err
	}
	snap := a.cfg.Store.Snapshot()
	cluster, err := a.cluster(snap, r.GetCluster())
	if err != nil {
		return nil, err
	}
	res := &pb.DescribeContainerInstancesResponse{}
	for _, s := range r.GetContainerInstances() {
		i, failure := a.instance(snap, cluster, s)
		if failure != nil {
			res.Failures = append(res.Failures, failure)
			continue
		}
		v := instanceView(snap, i)
		if slices.Contains(r.GetInclude(), pb.ContainerInstanceField_CONTAINER_INSTANCE_FIELD_TAGS) {
			v.Tags = i.State.GetTags()
		}
		if slices.Contains(r.GetInclude(), pb.ContainerInstanceField_CONTAINER_INSTANCE_FIELD_CONTAINER_INSTANCE_HEALTH) {
			v.HealthStatus = i.Record.GetInstance().GetHealthStatus()
		}
		res.ContainerInstances = append(res.ContainerInstances, v)
	}
	return res, nil
}

// ListContainerInstances lists container instances' ARNs: those that are not
// deregistered, have the status if one is given, and match the filter.
func (a *API) ListContainerInstances(_ context.Context, r *pb.ListContainerInstancesRequest) (*pb.ListContainerInstancesResponse, error) {
	snap := a.cfg.Store.Snapshot()
	cluster, err := a.cluster(snap, r.GetCluster())
	if err != nil {
		return nil, err
	}
	var filter *query.Expression
	if strings.TrimSpace(r.GetFilter()) != "" {
		if filter, err = query.Parse(r.GetFilter()); err != nil {
			return nil, apierror.New(apierror.InvalidParameter, "filter: it is not in the cluster query language: %s", err)
		}
	}
	var items []item
	for i := range snap.Instances(cluster) {
		status := i.Status()
		if want := ecsjson.Wire(r.GetStatus()); status == model.InstanceInactive || want != "" && status != want {
			continue
		}
		if filter == nil || placement.Matches(snap, i, filter) {
			items = append(items, item{i.Record.GetId(), i.Record.GetInstance().GetContainerInstanceArn()})
		}
	}
	arns, next, err := page("ListContainerInstances", items, false, r.GetNextToken(), r.MaxResults)
	if err != nil {
		return nil, err
	}
	return &pb.ListContainerInstancesResponse{ContainerInstanceArns: arns, NextToken: next}, nil
}

// UpdateContainerInstancesState sets container instances ACTIVE or DRAINING.
func (a *API) UpdateContainerInstancesState(ctx context.Context, r *pb.UpdateContainerInstancesStateRequest) (*pb.UpdateContainerInstancesStateResponse, error) {
	status := ecsjson.Wire(r.GetStatus())
	if status != model.InstanceActive && status != model.InstanceDraining {
		return nil, apierror.New(apierror.InvalidParameter, "status: it is %q: give ACTIVE or DRAINING", status)
	}
	if err := atMost("containerInstances", len(r.GetContainerInstances()), 10); err != nil {
		return nil, err
	}
	var cluster string
	var ids []string
	res := &pb.UpdateContainerInstancesStateResponse{}
	snap, err := a.commit(ctx, "update container instances", func(snap *model.Snapshot) (batch model.Batch, err error) {
		if cluster, err = a.cluster(snap, r.GetCluster()); err != nil {
			return nil, err
		}
		ids, res.Failures = nil, nil
		for _, s := range r.GetContainerInstances() {
			i, failure := a.instance(snap, cluster, s)
			switch {
			case failure != nil:
			case i.Status() == model.InstanceInactive:
				failure = &pb.Failure{Arn: i.Record.GetInstance().GetContainerInstanceArn(), Reason: model.InstanceInactive}
			case slices.Contains(ids, i.Record.GetId()):
				continue
			}
			if failure != nil {
				res.Failures = append(res.Failures, failure)
				continue
			}
			ids = append(ids, i.Record.GetId())
			if i.Status() != status {
				state := stateOf(i)
				state.Status = status
				batch = append(batch, stateWrite(i, state))
			}
		}
		return batch, nil
	})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if i, ok := snap.Instance(cluster, id); ok {
			res.ContainerInstances = append(res.ContainerInstances, instanceView(snap, i))
		}
	}
	return res, nil
}

// DeregisterContainerInstance removes a container instance: its agent is turned
// away from then on, and with force its tasks are given up.
func (a *API) DeregisterContainerInstance(ctx context.Context, r *pb.DeregisterContainerInstanceRequest) (*pb.DeregisterContainerInstanceResponse, error) {
	var cluster, id string
	snap, err := a.commit(ctx, "deregister container instance "+r.GetContainerInstance(), func(snap *model.Snapshot) (batch model.Batch, err error) {
		if cluster, err = a.cluster(snap, r.GetCluster()); err != nil {
			return nil, err
		}
		i, failure := a.instance(snap, cluster, r.GetContainerInstance())
		if failure != nil {
			return nil, apierror.New(apierror.InvalidParameter, "container instance %q is not registered in cluster %q", r.GetContainerInstance(), cluster)
		}
		id = i.Record.GetId()
		if i.Used.Tasks > 0 && !r.GetForce() {
			return nil, apierror.New(apierror.InvalidParameter, "Found running tasks on the instance. Container instance %s has %d: drain it, or give force.", id, i.Used.Tasks)
		}
		if i.Status() == model.InstanceInactive {
			return nil, nil
		}
		state := stateOf(i)
		state.Status = model.InstanceInactive
		return model.Batch{stateWrite(i, state)}, nil
	})
	if err != nil {
		return nil, err
	}
	i, ok := snap.Instance(cluster, id)
	if !ok {
		return nil, apierror.New(apierror.InvalidParameter, "container instance %q is no longer kept", r.GetContainerInstance())
	}
	return &pb.DeregisterContainerInstanceResponse{ContainerInstance: instanceView(snap, i)}, nil
}

// instance finds a container instance of the cluster by id or ARN.
func (a *API) instance(snap *model.Snapshot, cluster, s string) (*model.Instance, *pb.Failure) {
	if id, ok := a.within(cluster, arnInstance, s); ok {
		if i, ok := snap.Instance(cluster, id); ok {
			return i, nil
		}
	}
	return nil, a.missingIn(cluster, arnInstance, s)
}

// stateOf is a copy of what users set on the host, to be changed.
func stateOf(i *model.Instance) *pb.ContainerInstanceStateRecord {
	if i.State != nil {
		return proto.CloneOf(i.State)
	}
	return &pb.ContainerInstanceStateRecord{Cluster: i.Record.GetCluster(), Instance: i.Record.GetId(), Status: i.Status()}
}

func stateWrite(i *model.Instance, state *pb.ContainerInstanceStateRecord) model.Write {
	return model.Write{
		Key:   model.Key{Kind: model.KindInstanceState, Cluster: i.Record.GetCluster(), ID: i.Record.GetId()},
		Value: state, If: i.StateRevision,
	}
}

// instanceView is a container instance as it is described, without its tags.
func instanceView(snap *model.Snapshot, i *model.Instance) *pb.ContainerInstance {
	v := proto.CloneOf(i.Record.GetInstance())
	v.HealthStatus = nil // where it is asked for
	v.Status, v.AgentConnected = i.Status(), snap.Connected(i)
	v.Version = max(i.RecordRevision, i.StateRevision, i.SessionRevision)
	for t := range snap.TasksOfInstance(i.Record.GetCluster(), i.Record.GetId()) {
		switch last := t.LastStatus(); {
		case last == taskstate.Running:
			v.RunningTasksCount++
		case last.Starting():
			v.PendingTasksCount++
		}
	}
	v.RemainingResources = remaining(i)
	v.Attributes = attributes(i)
	return v
}

// remaining is the registered resources without what tasks take; of ports,
// those that are taken.
func remaining(i *model.Instance) []*pb.Resource {
	var out []*pb.Resource
	for _, r := range i.Record.GetInstance().GetRegisteredResources() {
		r = proto.CloneOf(r)
		switch r.GetName() {
		case "CPU":
			r.IntegerValue -= int32(i.Used.CPU)
		case "MEMORY":
			r.IntegerValue -= int32(i.Used.Memory)
		case "PORTS", "PORTS_UDP":
			for _, p := range i.Used.Ports {
				if port := strconv.Itoa(int(p.Number)); p.UDP == (r.GetName() == "PORTS_UDP") && !slices.Contains(r.GetStringSetValue(), port) {
					r.StringSetValue = append(r.StringSetValue, port)
				}
			}
		}
		out = append(out, r)
	}
	return out
}

// attributes are the host's, each name once with the value that counts, by
// name.
func attributes(i *model.Instance) []*pb.Attribute {
	var out []*pb.Attribute
	for _, at := range i.Attributes() {
		at = &pb.Attribute{Name: at.GetName(), Value: at.GetValue()}
		if n := slices.IndexFunc(out, func(o *pb.Attribute) bool { return o.GetName() == at.GetName() }); n >= 0 {
			out[n] = at
		} else {
			out = append(out, at)
		}
	}
	slices.SortFunc(out, func(x, y *pb.Attribute) int { return strings.Compare(x.GetName(), y.GetName()) })
	return out
}
