package api

import (
	"context"
	"slices"
	"strings"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/api/validate"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// maxAttributes is how many custom attributes a container instance may have.
const maxAttributes = 10

// PutAttributes sets custom attributes on container instances.
func (a *API) PutAttributes(ctx context.Context, r *pb.PutAttributesRequest) (*pb.PutAttributesResponse, error) {
	if err := invalid(validate.Attributes(r.GetAttributes(), true)); err != nil {
		return nil, err
	}
	put, err := a.changeAttributes(ctx, r.GetCluster(), r.GetAttributes(), func(set []*pb.Attribute, at *pb.Attribute) []*pb.Attribute {
		set = slices.DeleteFunc(set, func(o *pb.Attribute) bool { return o.GetName() == at.GetName() })
		return append(set, &pb.Attribute{Name: at.GetName(), Value: at.GetValue()})
	})
	if err != nil {
		return nil, err
	}
	return &pb.PutAttributesResponse{Attributes: put}, nil
}

// DeleteAttributes deletes custom attributes; one that is not there is as if
// deleted. With a value, only an attribute that has it is deleted.
func (a *API) DeleteAttributes(ctx context.Context, r *pb.DeleteAttributesRequest) (*pb.DeleteAttributesResponse, error) {
	if err := invalid(validate.Attributes(r.GetAttributes(), false)); err != nil {
		return nil, err
	}
	deleted, err := a.changeAttributes(ctx, r.GetCluster(), r.GetAttributes(), func(set []*pb.Attribute, at *pb.Attribute) []*pb.Attribute {
		return slices.DeleteFunc(set, func(o *pb.Attribute) bool {
			return o.GetName() == at.GetName() && (at.GetValue() == "" || at.GetValue() == o.GetValue())
		})
	})
	if err != nil {
		return nil, err
	}
	return &pb.DeleteAttributesResponse{Attributes: deleted}, nil
}

// changeAttributes applies each attribute to its target's custom attributes, all
// or nothing, and answers the attributes with their targets' ARNs.
func (a *API) changeAttributes(ctx context.Context, clusterName string, attrs []*pb.Attribute, change func(set []*pb.Attribute, at *pb.Attribute) []*pb.Attribute) ([]*pb.Attribute, error) {
	for i, at := range attrs {
		if strings.HasPrefix(at.GetName(), "ecs.") {
			return nil, apierror.New(apierror.InvalidParameter, "attributes[%d].name: %q begins with ecs., which is kept for what hosts say of themselves: give another", i, at.GetName())
		}
	}
	var answer []*pb.Attribute
	_, err := a.commit(ctx, "change attributes", func(snap *model.Snapshot) (model.Batch, error) {
		cluster, err := a.cluster(snap, clusterName)
		if err != nil {
			return nil, err
		}
		answer = nil
		states := map[string]*pb.ContainerInstanceStateRecord{}
		var batch model.Batch
		for _, at := range attrs {
			i, failure := a.instance(snap, cluster, at.GetTargetId())
			if failure != nil || i.Status() == model.InstanceInactive {
				return nil, apierror.New(apierror.TargetNotFound, "container instance %q is not registered in cluster %q", at.GetTargetId(), cluster)
			}
			id := i.Record.GetId()
			if states[id] == nil {
				states[id] = stateOf(i)
				batch = append(batch, stateWrite(i, states[id]))
			}
			states[id].Attributes = change(states[id].Attributes, at)
			if len(states[id].Attributes) > maxAttributes {
				return nil, apierror.New(apierror.AttributeLimitExceeded, "container instance %s would have more than %d custom attributes: delete some first", id, maxAttributes)
			}
			answer = append(answer, target(i, at))
		}
		return batch, nil
	})
	return answer, err
}

// target is the attribute with the instance as its target.
func target(i *model.Instance, at *pb.Attribute) *pb.Attribute {
	return &pb.Attribute{
		Name: at.GetName(), Value: at.GetValue(), TargetType: pb.TargetType_TARGET_TYPE_CONTAINER_INSTANCE,
		TargetId: i.Record.GetInstance().GetContainerInstanceArn(),
	}
}

// ListAttributes lists attributes by name and value.
func (a *API) ListAttributes(_ context.Context, r *pb.ListAttributesRequest) (*pb.ListAttributesResponse, error) {
	snap := a.cfg.Store.Snapshot()
	cluster, err := a.cluster(snap, r.GetCluster())
	switch {
	case err != nil:
		return nil, err
	case r.GetTargetType() != pb.TargetType_TARGET_TYPE_CONTAINER_INSTANCE:
		return nil, apierror.New(apierror.InvalidParameter, "targetType: required: give container-instance")
	case r.GetAttributeValue() != "" && r.GetAttributeName() == "":
		return nil, apierror.New(apierror.InvalidParameter, "attributeName: required with attributeValue: give a name")
	}
	var items []item
	found := map[string]*pb.Attribute{}
	for i := range snap.Instances(cluster) {
		if i.Status() == model.InstanceInactive {
			continue
		}
		for _, at := range attributes(i) {
			if r.GetAttributeName() != "" && at.GetName() != r.GetAttributeName() || r.GetAttributeValue() != "" && at.GetValue() != r.GetAttributeValue() {
				continue
			}
			key := i.Record.GetId() + "\n" + at.GetName()
			found[key] = target(i, at)
			items = append(items, item{key, key})
		}
	}
	keys, next, err := page("ListAttributes", items, false, r.GetNextToken(), r.MaxResults)
	if err != nil {
		return nil, err
	}
	res := &pb.ListAttributesResponse{NextToken: next}
	for _, key := range keys {
		res.Attributes = append(res.Attributes, found[key])
	}
	return res, nil
}
