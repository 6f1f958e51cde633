package api

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/api/validate"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// TagResource adds tags to a resource; those of the same keys are replaced.
func (a *API) TagResource(ctx context.Context, r *pb.TagResourceRequest) (*pb.TagResourceResponse, error) {
	if err := invalid(validate.Tags(r.GetTags())); err != nil {
		return nil, err
	}
	err := a.retag(ctx, r.GetResourceArn(), func(tags []*pb.Tag) ([]*pb.Tag, error) {
		if tags = merged(tags, r.GetTags()); len(tags) > validate.MaxTags {
			return nil, apierror.New(apierror.LimitExceeded, "%s would have %d tags: at most %d are allowed", r.GetResourceArn(), len(tags), validate.MaxTags)
		}
		return tags, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.TagResourceResponse{}, nil
}

// UntagResource removes tags from a resource; keys that it has not are as if
// removed.
func (a *API) UntagResource(ctx context.Context, r *pb.UntagResourceRequest) (*pb.UntagResourceResponse, error) {
	err := a.retag(ctx, r.GetResourceArn(), func(tags []*pb.Tag) ([]*pb.Tag, error) {
		return slices.DeleteFunc(slices.Clone(tags), func(t *pb.Tag) bool { return slices.Contains(r.GetTagKeys(), t.GetKey()) }), nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.UntagResourceResponse{}, nil
}

// ListTagsForResource lists a resource's tags.
func (a *API) ListTagsForResource(_ context.Context, r *pb.ListTagsForResourceRequest) (*pb.ListTagsForResourceResponse, error) {
	found, err := a.tagged(a.cfg.Store.Snapshot(), r.GetResourceArn())
	if err != nil {
		return nil, err
	}
	return &pb.ListTagsForResourceResponse{Tags: found.tags}, nil
}

// tagged is a resource that has tags.
type tagged struct {
	tags []*pb.Tag
	// write is the write that gives the resource other tags.
	write func([]*pb.Tag) model.Write
}

func (a *API) retag(ctx context.Context, arn string, change func([]*pb.Tag) ([]*pb.Tag, error)) error {
	what := "tag " + arn
	var fences []store.Fence
	if strings.HasPrefix(arn, a.arn(arnTask, "")) { // the leader writes tasks
		var err error
		if fences, err = a.cfg.Fences(); err != nil {
			return a.failed(ctx, what, err)
		}
	}
	_, err := a.commit(ctx, what, func(snap *model.Snapshot) (model.Batch, error) {
		found, err := a.tagged(snap, arn)
		if err != nil {
			return nil, err
		}
		tags, err := change(found.tags)
		if err != nil {
			return nil, err
		}
		return model.Batch{found.write(tags)}, nil
	}, fences...)
	return err
}

// tagged finds the resource of an ARN.
func (a *API) tagged(snap *model.Snapshot, arn string) (tagged, error) {
	notFound := apierror.New(apierror.ResourceNotFound, "%q does not exist: give the ARN of a cluster, service, task, container instance or task definition", arn)
	for _, kind := range []string{arnCluster, arnDefinition, arnService, arnTask, arnInstance} {
		cluster, id, ok := a.resolve(kind, arn)
		if !ok || id == arn {
			continue
		}
		if cluster == "" {
			cluster = "default"
		}
		if found, ok := taggedOf(snap, kind, cluster, id); ok {
			return found, nil
		}
		return tagged{}, notFound
	}
	return tagged{}, notFound
}

func taggedOf(snap *model.Snapshot, kind, cluster, id string) (tagged, bool) {
	switch kind {
	case arnCluster:
		row, ok := snap.Clusters().Get(id)
		return tagged{row.Value.GetCluster().GetTags(), func(tags []*pb.Tag) model.Write {
			record := proto.CloneOf(row.Value)
			record.Cluster.Tags = tags
			return model.Write{Key: clusterKey(id), Value: record, If: row.Revision}
		}}, ok
	case arnDefinition:
		row, ok := snap.Definitions().Get(id)
		return tagged{row.Value.GetTags(), func(tags []*pb.Tag) model.Write {
			record := proto.CloneOf(row.Value)
			record.Tags = tags
			return model.Write{Key: definitionKey(id), Value: record, If: row.Revision}
		}}, ok
	case arnService:
		s, ok := snap.Service(cluster, id)
		if !ok {
			return tagged{}, false
		}
		return tagged{s.Record.GetService().GetTags(), func(tags []*pb.Tag) model.Write {
			record := proto.CloneOf(s.Record)
			record.Service.Tags = tags
			return model.Write{Key: serviceKey(cluster, id), Value: record, If: s.RecordRevision}
		}}, true
	case arnTask:
		t, ok := snap.Task(cluster, id)
		if !ok {
			return tagged{}, false
		}
		return tagged{t.Record.GetTask().GetTags(), func(tags []*pb.Tag) model.Write {
			record := proto.CloneOf(t.Record)
			record.Task.Tags = tags
			return model.Write{Key: t.Key(), Value: record, If: t.RecordRevision}
		}}, true
	}
	i, ok := snap.Instance(cluster, id)
	if !ok {
		return tagged{}, false
	}
	return tagged{i.State.GetTags(), func(tags []*pb.Tag) model.Write {
		state := stateOf(i)
		state.Tags = tags
		return stateWrite(i, state)
	}}, true
}
