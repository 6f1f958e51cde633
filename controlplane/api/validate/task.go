package validate

import (
	"fmt"
	"strings"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// The limits of one call.
const (
	maxCount       = 10
	maxInstances   = 10
	maxOverrides   = 8192 // bytes of all container overrides
	maxToken       = 64   // characters
	maxReferenceID = 1024 // characters
)

// RunTask checks a RunTask. Its error is an *Error.
func RunTask(r *pb.RunTaskRequest) error {
	var p problems
	p.honoured(r, runTaskRules)
	if r.Count != nil && (r.GetCount() < 1 || r.GetCount() > maxCount) {
		p.add("count", "%d is out of range: give 1 to %d", r.GetCount(), maxCount)
	}
	p.launch(r)
	p.clientToken(r.GetClientToken())
	p.constraints(r.GetPlacementConstraints())
	p.strategies(r.GetPlacementStrategy())
	return p.err()
}

// StartTask checks a StartTask. Its error is an *Error.
func StartTask(r *pb.StartTaskRequest) error {
	var p problems
	p.honoured(r, startTaskRules)
	if n := len(r.GetContainerInstances()); n < 1 || n > maxInstances {
		p.add("containerInstances", "there are %d: give 1 to %d", n, maxInstances)
	}
	p.launch(r)
	return p.err()
}

// launch checks what RunTask and StartTask share.
func (p *problems) launch(r interface {
	GetTaskDefinition() string
	GetGroup() string
	GetStartedBy() string
	GetReferenceId() string
	GetOverrides() *pb.TaskOverride
	GetTags() []*pb.Tag
}) {
	if r.GetTaskDefinition() == "" {
		p.add("taskDefinition", "required: give a family, family:revision or ARN")
	}
	if !groupPattern.MatchString(r.GetGroup()) {
		p.add("group", "%s is not a group: use at most 255 letters, digits and _ : . / -", quote(r.GetGroup()))
	}
	if strings.HasPrefix(r.GetGroup(), "service:") {
		p.add("group", "%s begins with service:, which is kept for services: give another", quote(r.GetGroup()))
	}
	if !startedPattern.MatchString(r.GetStartedBy()) {
		p.add("startedBy", "%s is not usable: use at most 128 letters, digits and - _ /", quote(r.GetStartedBy()))
	}
	if len(r.GetReferenceId()) > maxReferenceID {
		p.add("referenceId", "it is longer than %d characters: shorten it", maxReferenceID)
	}
	p.overrides(r.GetOverrides())
	p.tags("tags", r.GetTags())
}

func (p *problems) overrides(o *pb.TaskOverride) {
	p.taskSize("overrides.", o.GetCpu(), o.GetMemory())
	seen, size := map[string]bool{}, 0
	for i, c := range o.GetContainerOverrides() {
		at := fmt.Sprintf("overrides.containerOverrides[%d]", i)
		switch {
		case c.GetName() == "":
			p.add(at+".name", "required: name the container")
		case seen[c.GetName()]:
			p.add(at+".name", "%s is given twice: override each container once", quote(c.GetName()))
		}
		seen[c.GetName()] = true
		if c.Cpu != nil && (c.GetCpu() < 0 || c.GetCpu() > maxTaskCPU) {
			p.add(at+".cpu", "%d is out of range: give 0 to %d units", c.GetCpu(), maxTaskCPU)
		}
		for _, m := range []struct {
			name  string
			value *int32
		}{{"memory", c.Memory}, {"memoryReservation", c.MemoryReservation}} {
			if m.value != nil && (*m.value < minMemory || *m.value > maxMemory) {
				p.add(at+"."+m.name, "%d is out of range: give %d to %d MiB", *m.value, minMemory, maxMemory)
			}
		}
		p.environment(at+".environment", c.GetEnvironment())
		for _, s := range c.GetCommand() {
			size += len(s)
		}
		for _, e := range c.GetEnvironment() {
			size += len(e.GetName()) + len(e.GetValue())
		}
	}
	if size > maxOverrides {
		p.add("overrides", "they have %d bytes: at most %d are allowed", size, maxOverrides)
	}
}

// Overrides checks overrides against the task definition that they change. Its
// error is an *Error.
func Overrides(def *pb.TaskDefinition, o *pb.TaskOverride) error {
	var p problems
	for i, c := range o.GetContainerOverrides() {
		at := fmt.Sprintf("overrides.containerOverrides[%d]", i)
		d := container(def, c.GetName())
		if d == nil {
			p.add(at+".name", "%s is not a container of task definition %s:%d", quote(c.GetName()), def.GetFamily(), def.GetRevision())
			continue
		}
		hard, soft := d.Memory, d.MemoryReservation
		if c.Memory != nil {
			hard = c.Memory
		}
		if c.MemoryReservation != nil {
			soft = c.MemoryReservation
		}
		if hard != nil && soft != nil && *hard < *soft {
			p.add(at+".memory", "%d MiB is below memoryReservation, %d", *hard, *soft)
		}
	}
	return p.err()
}

func container(def *pb.TaskDefinition, name string) *pb.ContainerDefinition {
	for _, c := range def.GetContainerDefinitions() {
		if c.GetName() == name {
			return c
		}
	}
	return nil
}

func (p *problems) clientToken(t string) {
	if len(t) > maxToken || strings.ContainsFunc(t, func(r rune) bool { return r < 33 || r > 126 }) {
		p.add("clientToken", "%s is not usable: give at most %d visible ASCII characters", quote(t), maxToken)
	}
}

// ListTasks checks a ListTasks. Its error is an *Error.
func ListTasks(r *pb.ListTasksRequest) error {
	var p problems
	p.honoured(r, listTasksRules)
	return p.err()
}
