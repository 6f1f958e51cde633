package api

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/api/validate"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// RegisterTaskDefinition registers a new revision of a family.
func (a *API) RegisterTaskDefinition(ctx context.Context, r *pb.RegisterTaskDefinitionRequest) (*pb.RegisterTaskDefinitionResponse, error) {
	if err := validate.TaskDefinition(r); err != nil {
		return nil, apierror.New(apierror.Client, "%s", err)
	}
	def := definition(r)
	def.RegisteredAt = timestamppb.New(a.cfg.Now())
	record := &pb.TaskDefinitionRecord{TaskDefinition: def, Tags: r.GetTags()}
	_, err := a.commit(ctx, "register task definition "+r.GetFamily(), func(snap *model.Snapshot) (model.Batch, error) {
		family, _ := snap.Families().Get(r.GetFamily())
		def.Revision = family.Value.GetLatestRevision() + 1
		id := model.DefinitionID(def.GetFamily(), def.GetRevision())
		def.TaskDefinitionArn = a.arn(arnDefinition, id)
		return model.Batch{
			{
				Key:   model.Key{Kind: model.KindFamily, ID: def.GetFamily()},
				Value: &pb.TaskDefinitionFamilyRecord{Family: def.GetFamily(), LatestRevision: def.GetRevision()},
				If:    family.Revision,
			},
			{Key: definitionKey(id), Value: proto.CloneOf(record)},
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.RegisterTaskDefinitionResponse{TaskDefinition: def, Tags: r.GetTags()}, nil
}

// definition is the task definition that a registration describes, with ECS's
// defaults and with sizes in plain units. Revision, ARN and time are not set.
func definition(r *pb.RegisterTaskDefinitionRequest) *pb.TaskDefinition {
	r = proto.CloneOf(r)
	def := &pb.TaskDefinition{
		Family: r.GetFamily(), ContainerDefinitions: r.GetContainerDefinitions(), ExecutionRoleArn: r.GetExecutionRoleArn(),
		NetworkMode: r.GetNetworkMode(), Status: pb.TaskDefinitionStatus_TASK_DEFINITION_STATUS_ACTIVE,
		PlacementConstraints: r.GetPlacementConstraints(), RuntimePlatform: r.GetRuntimePlatform(),
		Compatibilities:         []pb.Compatibility{pb.Compatibility_COMPATIBILITY_EXTERNAL, pb.Compatibility_COMPATIBILITY_EC2},
		RequiresCompatibilities: r.GetRequiresCompatibilities(),
	}
	if n, ok := validate.ParseCPU(r.GetCpu()); ok {
		def.Cpu = strconv.FormatInt(n, 10)
	}
	if n, ok := validate.ParseMemory(r.GetMemory()); ok {
		def.Memory = strconv.FormatInt(n, 10)
	}
	if def.GetNetworkMode() == pb.NetworkMode_NETWORK_MODE_UNSPECIFIED {
		def.NetworkMode = pb.NetworkMode_NETWORK_MODE_BRIDGE
	}
	for _, c := range def.GetContainerDefinitions() {
		if c.Essential == nil {
			c.Essential = proto.Bool(true)
		}
		for _, m := range c.GetPortMappings() {
			if m.GetProtocol() == pb.TransportProtocol_TRANSPORT_PROTOCOL_UNSPECIFIED {
				m.Protocol = pb.TransportProtocol_TRANSPORT_PROTOCOL_TCP
			}
			if def.GetNetworkMode() == pb.NetworkMode_NETWORK_MODE_HOST {
				m.HostPort = m.ContainerPort
			} else if m.HostPort == nil {
				m.HostPort = proto.Int32(0)
			}
		}
	}
	return def
}

// DescribeTaskDefinition describes a revision.
func (a *API) DescribeTaskDefinition(_ context.Context, r *pb.DescribeTaskDefinitionRequest) (*pb.DescribeTaskDefinitionResponse, error) {
	record, err := a.definition(a.cfg.Store.Snapshot(), r.GetTaskDefinition())
	if err != nil {
		return nil, err
	}
	res := &pb.DescribeTaskDefinitionResponse{TaskDefinition: record.GetTaskDefinition()}
	if slices.Contains(r.GetInclude(), pb.TaskDefinitionField_TASK_DEFINITION_FIELD_TAGS) {
		res.Tags = record.GetTags()
	}
	return res, nil
}

// definition finds a task definition by family, family:revision or ARN. A
// family alone is its newest ACTIVE revision.
func (a *API) definition(snap *model.Snapshot, s string) (*pb.TaskDefinitionRecord, error) {
	if s == "" {
		return nil, apierror.New(apierror.Client, "taskDefinition: required: give a family, family:revision or ARN")
	}
	_, id, ok := a.resolve(arnDefinition, s)
	if !ok {
		return nil, apierror.New(apierror.Client, "task definition %q does not exist: an ARN must be one of this account and region", s)
	}
	if _, _, revised := strings.Cut(id, ":"); revised {
		if record := snap.Definition(id); record != nil {
			return record, nil
		}
		return nil, apierror.New(apierror.Client, "task definition %q does not exist: ListTaskDefinitions (plim taskdef ls) lists what there is", s)
	}
	family, _ := snap.Families().Get(id)
	for n := family.Value.GetLatestRevision(); n > 0; n-- {
		if record := snap.Definition(model.DefinitionID(id, n)); active(record) {
			return record, nil
		}
	}
	return nil, apierror.New(apierror.Client, "task definition family %q has no ACTIVE revision: register one", id)
}

// startable is definition for something that new tasks are to run from.
func (a *API) startable(snap *model.Snapshot, s string) (*pb.TaskDefinitionRecord, error) {
	record, err := a.definition(snap, s)
	if err == nil && !active(record) {
		err = apierror.New(apierror.Client, "task definition %q is INACTIVE: name another revision, or register a new one", s)
	}
	return record, err
}

func active(r *pb.TaskDefinitionRecord) bool {
	return r.GetTaskDefinition().GetStatus() == pb.TaskDefinitionStatus_TASK_DEFINITION_STATUS_ACTIVE
}

// ListTaskDefinitions lists revisions' ARNs, by family and revision; ACTIVE ones
// if no status is given.
func (a *API) ListTaskDefinitions(_ context.Context, r *pb.ListTaskDefinitionsRequest) (*pb.ListTaskDefinitionsResponse, error) {
	status := r.GetStatus()
	if status == pb.TaskDefinitionStatus_TASK_DEFINITION_STATUS_UNSPECIFIED {
		status = pb.TaskDefinitionStatus_TASK_DEFINITION_STATUS_ACTIVE
	}
	prefix := ""
	if r.GetFamilyPrefix() != "" {
		prefix = r.GetFamilyPrefix() + ":"
	}
	var items []item
	for _, row := range a.cfg.Store.Snapshot().Definitions().Prefix(prefix) {
		if d := row.Value.GetTaskDefinition(); d.GetStatus() == status {
			items = append(items, item{fmt.Sprintf("%s\n%010d", d.GetFamily(), d.GetRevision()), d.GetTaskDefinitionArn()})
		}
	}
	arns, next, err := page("ListTaskDefinitions", items, r.GetSort() == pb.SortOrder_SORT_ORDER_DESC, r.GetNextToken(), r.MaxResults)
	if err != nil {
		return nil, err
	}
	return &pb.ListTaskDefinitionsResponse{TaskDefinitionArns: arns, NextToken: next}, nil
}

// ListTaskDefinitionFamilies lists families; those with ACTIVE revisions and
// those without if no status is given.
func (a *API) ListTaskDefinitionFamilies(_ context.Context, r *pb.ListTaskDefinitionFamiliesRequest) (*pb.ListTaskDefinitionFamiliesResponse, error) {
	state := map[string]bool{} // whether a family has an ACTIVE revision
	for _, row := range a.cfg.Store.Snapshot().Definitions().Prefix(r.GetFamilyPrefix()) {
		family := row.Value.GetTaskDefinition().GetFamily()
		state[family] = state[family] || active(row.Value)
	}
	var items []item
	for family, isActive := range state {
		switch r.GetStatus() {
		case pb.TaskDefinitionFamilyStatus_TASK_DEFINITION_FAMILY_STATUS_ACTIVE:
			if !isActive {
				continue
			}
		case pb.TaskDefinitionFamilyStatus_TASK_DEFINITION_FAMILY_STATUS_INACTIVE:
			if isActive {
				continue
			}
		}
		items = append(items, item{family, family})
	}
	families, next, err := page("ListTaskDefinitionFamilies", items, false, r.GetNextToken(), r.MaxResults)
	if err != nil {
		return nil, err
	}
	return &pb.ListTaskDefinitionFamiliesResponse{Families: families, NextToken: next}, nil
}

// DeregisterTaskDefinition marks a revision INACTIVE.
func (a *API) DeregisterTaskDefinition(ctx context.Context, r *pb.DeregisterTaskDefinitionRequest) (*pb.DeregisterTaskDefinitionResponse, error) {
	if !strings.Contains(r.GetTaskDefinition()[strings.LastIndexByte(r.GetTaskDefinition(), '/')+1:], ":") {
		return nil, apierror.New(apierror.Client, "taskDefinition: %q has no revision: give family:revision or an ARN", r.GetTaskDefinition())
	}
	var after *pb.TaskDefinitionRecord
	_, err := a.commit(ctx, "deregister task definition "+r.GetTaskDefinition(), func(snap *model.Snapshot) (model.Batch, error) {
		record, err := a.definition(snap, r.GetTaskDefinition())
		if err != nil {
			return nil, err
		}
		if after = record; !active(record) {
			return nil, nil
		}
		id := model.DefinitionID(record.GetTaskDefinition().GetFamily(), record.GetTaskDefinition().GetRevision())
		row, _ := snap.Definitions().Get(id)
		after = proto.CloneOf(record)
		after.TaskDefinition.Status = pb.TaskDefinitionStatus_TASK_DEFINITION_STATUS_INACTIVE
		after.TaskDefinition.DeregisteredAt = timestamppb.New(a.cfg.Now())
		return model.Batch{{Key: definitionKey(id), Value: after, If: row.Revision}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.DeregisterTaskDefinitionResponse{TaskDefinition: after.GetTaskDefinition()}, nil
}

// DeleteTaskDefinitions deletes INACTIVE revisions that nothing runs from.
func (a *API) DeleteTaskDefinitions(ctx context.Context, r *pb.DeleteTaskDefinitionsRequest) (*pb.DeleteTaskDefinitionsResponse, error) {
	if err := atMost("taskDefinitions", len(r.GetTaskDefinitions()), 10); err != nil {
		return nil, err
	}
	var res *pb.DeleteTaskDefinitionsResponse
	_, err := a.commit(ctx, "delete task definitions", func(snap *model.Snapshot) (model.Batch, error) {
		res = &pb.DeleteTaskDefinitionsResponse{}
		used := usedDefinitions(snap)
		var batch model.Batch
		gone := map[string]bool{}
		for _, s := range r.GetTaskDefinitions() {
			_, id, _ := a.resolve(arnDefinition, s)
			row, ok := snap.Definitions().Get(id)
			arn := row.Value.GetTaskDefinition().GetTaskDefinitionArn()
			switch {
			case !ok:
				res.Failures = append(res.Failures, a.missing(arnDefinition, s))
			case active(row.Value):
				res.Failures = append(res.Failures, &pb.Failure{Arn: arn, Reason: "ACTIVE", Detail: "it is still ACTIVE: deregister it first"})
			case used[arn] != "":
				res.Failures = append(res.Failures, &pb.Failure{Arn: arn, Reason: "IN_USE", Detail: used[arn] + " uses it: stop or update that first"})
			case !gone[id]:
				gone[id] = true
				def := proto.CloneOf(row.Value.GetTaskDefinition())
				def.Status = pb.TaskDefinitionStatus_TASK_DEFINITION_STATUS_DELETE_IN_PROGRESS
				def.DeleteRequestedAt = timestamppb.New(a.cfg.Now())
				res.TaskDefinitions = append(res.TaskDefinitions, def)
				batch = append(batch, model.Write{Key: definitionKey(id), If: row.Revision})
			}
		}
		return batch, nil
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// usedDefinitions says by ARN what runs from a task definition or may again.
func usedDefinitions(snap *model.Snapshot) map[string]string {
	used := map[string]string{}
	for t := range snap.Tasks("") {
		if !t.Stopped() {
			used[t.Record.GetTask().GetTaskDefinitionArn()] = "task " + t.Record.GetId()
		}
	}
	for s := range snap.Services("") {
		if serviceStatus(s) == statusInactive {
			continue
		}
		what := "service " + s.Record.GetService().GetServiceName()
		used[s.Record.GetService().GetTaskDefinition()] = what
		for _, d := range s.Status.GetDeployments() {
			used[d.GetDeployment().GetTaskDefinition()] = what
		}
	}
	return used
}

func definitionKey(id string) model.Key { return model.Key{Kind: model.KindDefinition, ID: id} }
