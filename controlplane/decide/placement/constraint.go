package placement

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/decide/query"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// constraints are a task's, parsed.
type constraints struct {
	distinct bool
	members  []*query.Expression
}

// constraintsOf are the task's own and its definition's.
func (p *planner) constraintsOf(t *model.Task) (constraints, error) {
	var c constraints
	for _, pc := range t.Record.GetPlacementConstraints() {
		if pc.GetType() == pb.PlacementConstraintType_PLACEMENT_CONSTRAINT_TYPE_DISTINCT_INSTANCE {
			c.distinct = true
		} else if err := c.member(pc.GetExpression()); err != nil {
			return c, err
		}
	}
	def := p.snapshot.DefinitionOf(t.Record.GetTask().GetTaskDefinitionArn())
	for _, pc := range def.GetTaskDefinition().GetPlacementConstraints() {
		if err := c.member(pc.GetExpression()); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *constraints) member(expression string) error {
	e, err := query.Parse(expression)
	if err != nil {
		return fmt.Errorf("memberOf(%s): %w", expression, err)
	}
	c.members = append(c.members, e)
	return nil
}

// changing are the expressions about what placing tasks changes.
func (c constraints) changing() []*query.Expression {
	return slices.DeleteFunc(slices.Clone(c.members), func(e *query.Expression) bool {
		return !e.About("task:group") && !e.About("runningTasksCount")
	})
}

// The reasons that explanations go into.
const (
	cpuReason  = "RESOURCE:CPU"
	memReason  = "RESOURCE:MEMORY"
	gpuReason  = "RESOURCE:GPU"
	portReason = "RESOURCE:PORTS"
)

// refuses is the first reason for which the host cannot take the task, empty if
// it can. Of the expressions only those in members are asked.
func (p *planner) refuses(h *host, need *pb.TaskResources, c constraints, members []*query.Expression) string {
	switch {
	case !h.available:
		return h.Status()
	case !h.connected:
		return "AGENT"
	case h.impaired:
		return "CONTAINER_RUNTIME"
	case c.distinct && h.count > 0:
		return "DISTINCT_INSTANCE"
	}
	for _, e := range members {
		if !e.Matches(target{p, h}) {
			return "ATTRIBUTE"
		}
	}
	switch {
	case need.GetCpu() > h.cpu:
		return cpuReason
	case need.GetMemory() > h.mem:
		return memReason
	case need.GetGpus() > h.gpus:
		return gpuReason
	case h.lacks(need) != 0:
		return portReason
	}
	return ""
}

// Matches says whether a container instance matches an expression of the cluster
// query language.
func Matches(s *model.Snapshot, i *model.Instance, e *query.Expression) bool {
	p := &planner{snapshot: s}
	h := p.hostOf(i)
	return e.Matches(target{p, &h})
}

// target shows a host to the query language.
type target struct {
	p *planner
	h *host
}

// Values are the values of a subject.
func (t target) Values(subject string) []string {
	switch subject {
	case "agentConnected":
		return []string{strconv.FormatBool(t.h.connected)}
	case "agentVersion":
		return one(t.h.Record.GetInstance().GetVersionInfo().GetAgentVersion())
	case "ec2InstanceId":
		return one(t.h.Record.GetInstance().GetEc2InstanceId())
	case "registeredAt":
		return one(t.h.Record.GetInstance().GetRegisteredAt().AsTime().Format(time.RFC3339))
	case "runningTasksCount":
		return []string{strconv.Itoa(t.h.Used.Tasks + len(t.h.groups))}
	case "task:group":
		groups := slices.Clone(t.h.groups)
		for task := range t.p.snapshot.TasksOfInstance(t.h.Record.GetCluster(), t.h.id) {
			if task.Holds() {
				groups = append(groups, task.Record.GetTask().GetGroup())
			}
		}
		return groups
	}
	const prefix = "attribute:"
	if v, ok := t.h.attribute(subject[len(prefix):]); ok {
		return []string{v}
	}
	return nil
}

func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
