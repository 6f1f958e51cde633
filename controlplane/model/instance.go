package model

import (
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// The statuses of a container instance.
const (
	InstanceActive   = "ACTIVE"
	InstanceDraining = "DRAINING"
	InstanceInactive = "INACTIVE"
)

// Instance joins a container instance's records with what its tasks take.
type Instance struct {
	// Record is the host as it registered; never nil in a Snapshot's tables.
	Record *pb.ContainerInstanceRecord
	// State is what users set, nil when nothing was.
	State *pb.ContainerInstanceStateRecord
	// Session is the host's newest session, nil when it never had one.
	Session *pb.SessionRecord
	// Liveness is there while the leader sees the host unreachable.
	Liveness *pb.InstanceLivenessRecord
	// The records' modification revisions, 0 where there is no record.
	RecordRevision, StateRevision, SessionRevision, LivenessRevision int64
	// Used is what the tasks that hold resources take. Derived.
	Used Resources
}

// Resources are amounts of what a host gives to tasks.
type Resources struct {
	CPU    int64 // units; 1024 is one core
	Memory int64 // MiB
	GPUs   int64
	Tasks  int
	// Ports are the static host ports in use, sorted. A port that two tasks claim
	// (which no placement does) is there twice, so that it stays in use until
	// both are gone.
	Ports []Port
}

// Port is a host port with its protocol.
type Port struct {
	Number int32
	UDP    bool
}

// Status is ACTIVE, DRAINING or INACTIVE.
func (i *Instance) Status() string {
	if s := i.State.GetStatus(); s != "" {
		return s
	}
	return InstanceActive
}

// Registered is what the host has for tasks: the registered CPU units and MiB,
// its GPUs, and as Ports those that it keeps for itself.
func (i *Instance) Registered() Resources {
	var r Resources
	for _, res := range i.Record.GetInstance().GetRegisteredResources() {
		switch res.GetName() {
		case "CPU":
			r.CPU = int64(res.GetIntegerValue())
		case "MEMORY":
			r.Memory = int64(res.GetIntegerValue())
		case "GPU":
			r.GPUs = int64(len(res.GetStringSetValue()))
		case "PORTS", "PORTS_UDP":
			for _, p := range res.GetStringSetValue() {
				r.Ports = append(r.Ports, parsePort(p, res.GetName() == "PORTS_UDP"))
			}
		}
	}
	return r
}

// Attributes are the host's own attributes and then those that users set. A
// later one replaces an earlier one of its name.
func (i *Instance) Attributes() []*pb.Attribute {
	return append(append([]*pb.Attribute(nil), i.Record.GetInstance().GetAttributes()...), i.State.GetAttributes()...)
}

// Impaired says whether the host told that it cannot run containers now.
func (i *Instance) Impaired() bool {
	return i.Record.GetInstance().GetHealthStatus().GetOverallStatus() == pb.InstanceHealthCheckState_INSTANCE_HEALTH_CHECK_STATE_IMPAIRED
}
