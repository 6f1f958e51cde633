package validate

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// The limits of a task definition, as ECS has them.
const (
	maxDefinitionBytes = 64 << 10
	maxContainers      = 10
	maxPortMappings    = 100
)

// TaskDefinition checks a registration. Its error is an *Error.
func TaskDefinition(r *pb.RegisterTaskDefinitionRequest) error {
	var p problems
	p.honoured(r, taskDefinitionRules)
	p.name("family", r.GetFamily())
	if size := proto.Size(r); size > maxDefinitionBytes {
		p.add("containerDefinitions", "the task definition has %d bytes: at most %d fit", size, maxDefinitionBytes)
	}
	cpu, memory := p.taskSize("", r.GetCpu(), r.GetMemory())
	p.containers(r, cpu, memory)
	p.ports(r)
	for i, c := range r.GetPlacementConstraints() {
		at := fmt.Sprintf("placementConstraints[%d]", i)
		if c.GetType() == pb.TaskDefinitionPlacementConstraintType_TASK_DEFINITION_PLACEMENT_CONSTRAINT_TYPE_UNSPECIFIED {
			p.add(at+".type", "required: give memberOf")
		}
		p.expression(at+".expression", c.GetExpression())
	}
	if n := len(r.GetPlacementConstraints()); n > maxConstraints {
		p.add("placementConstraints", "there are %d: at most %d are allowed", n, maxConstraints)
	}
	p.tags("tags", r.GetTags())
	return p.err()
}

// containers checks each container and what they are together. cpu and memory
// are the task's, 0 if it has none.
func (p *problems) containers(r *pb.RegisterTaskDefinitionRequest, cpu, memory int64) {
	defs := r.GetContainerDefinitions()
	if len(defs) == 0 {
		p.add("containerDefinitions", "required: give at least one container")
		return
	}
	if len(defs) > maxContainers {
		p.add("containerDefinitions", "there are %d containers: at most %d are allowed", len(defs), maxContainers)
	}
	seen := map[string]int{}
	essential := false
	var sumCPU, sumMemory int64
	for i, c := range defs {
		at := fmt.Sprintf("containerDefinitions[%d]", i)
		p.name(at+".name", c.GetName())
		if first, ok := seen[c.GetName()]; !ok {
			seen[c.GetName()] = i
		} else if c.GetName() != "" {
			p.add(at+".name", "%s is the name of containerDefinitions[%d] too: give each container its own", quote(c.GetName()), first)
		}
		essential = essential || c.Essential == nil || c.GetEssential()
		p.container(at, c)
		p.containerMemory(at, c, memory)
		sumCPU += int64(c.GetCpu())
		if c.MemoryReservation != nil {
			sumMemory += int64(c.GetMemoryReservation())
		} else {
			sumMemory += int64(c.GetMemory())
		}
	}
	if !essential {
		p.add("containerDefinitions", "no container is essential: set essential to true on at least one")
	}
	if cpu > 0 && sumCPU > cpu {
		p.add("cpu", "the containers reserve %d CPU units together, and the task has %d: raise it or lower theirs", sumCPU, cpu)
	}
	if memory > 0 && sumMemory > memory {
		p.add("memory", "the containers reserve %d MiB together, and the task has %d: raise it or lower theirs", sumMemory, memory)
	}
}

func (p *problems) containerMemory(at string, c *pb.ContainerDefinition, task int64) {
	hard, soft := int64(c.GetMemory()), int64(c.GetMemoryReservation())
	switch {
	case c.Memory == nil && c.MemoryReservation == nil && task == 0:
		p.add(at+".memory", "required: give memory or memoryReservation in MiB, or memory for the whole task")
	case c.Memory != nil && hard < minMemory:
		p.add(at+".memory", "%d MiB is too little: give at least %d", hard, minMemory)
	case c.MemoryReservation != nil && soft < minMemory:
		p.add(at+".memoryReservation", "%d MiB is too little: give at least %d", soft, minMemory)
	case c.Memory != nil && c.MemoryReservation != nil && hard < soft:
		p.add(at+".memoryReservation", "%d MiB is above memory, %d: the reservation must not be above the limit", soft, hard)
	case hard > maxMemory || soft > maxMemory:
		p.add(at+".memory", "it is out of range: give at most %d MiB", maxMemory)
	case task > 0 && hard > task:
		p.add(at+".memory", "%d MiB is above the task's memory, %d", hard, task)
	}
}
