package model

import (
	"iter"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Row is a record of a kind that nothing is joined to.
type Row[T proto.Message] struct {
	Value T
	// Revision is the record's modification revision.
	Revision int64
}

// Service joins a service's two records.
type Service struct {
	// Record is what users asked for; never nil in a Snapshot's tables.
	Record *pb.ServiceRecord
	// Status is what the reconciler made of it, nil before it looked.
	Status *pb.ServiceStatusRecord
	// The records' modification revisions, 0 where there is no record.
	RecordRevision, StatusRevision int64
}

// Change is a record's new value; a nil Value says that it was deleted.
type Change struct {
	Key      Key
	Value    proto.Message
	Revision int64 // the modification revision
}

// Snapshot is every record at one revision. It is immutable; the zero value is
// the empty store. Its methods may be called concurrently.
type Snapshot struct {
	// Revision is the store's revision that the snapshot shows.
	Revision int64

	clusters    Table[Row[*pb.ClusterRecord]]
	families    Table[Row[*pb.TaskDefinitionFamilyRecord]]
	definitions Table[Row[*pb.TaskDefinitionRecord]]
	replicas    Table[Row[*pb.ReplicaRecord]]
	joinTokens  Table[Row[*pb.JoinTokenRecord]]
	authority   Table[Row[*pb.AuthorityRecord]]

	// By cluster/id. Rows whose Record is nil (a status that came first, or
	// outlived its record) are kept here and hidden by the accessors.
	services  Table[*Service]
	tasks     Table[*Task]
	instances Table[*Instance]

	tasksByService  Table[*Task] // cluster/service/id
	tasksByInstance Table[*Task] // cluster/instance/id
	unbound         Table[*Task] // cluster/id: not stopped and bound to nothing
}

// With is the snapshot that the changes, in their order, make of this one.
func (s *Snapshot) With(revision int64, changes []Change) *Snapshot {
	n := *s
	n.Revision = revision
	e := editor{s: &n, copied: map[Kind]bool{}}
	for _, c := range changes {
		e.apply(c)
	}
	return &n
}

// Clusters yields the clusters by name.
func (s *Snapshot) Clusters() Table[Row[*pb.ClusterRecord]] { return s.clusters }

// Families yields the task definition families by name.
func (s *Snapshot) Families() Table[Row[*pb.TaskDefinitionFamilyRecord]] { return s.families }

// Definitions yields the task definitions by family:revision.
func (s *Snapshot) Definitions() Table[Row[*pb.TaskDefinitionRecord]] { return s.definitions }

// Replicas yields the running control plane replicas by id.
func (s *Snapshot) Replicas() Table[Row[*pb.ReplicaRecord]] { return s.replicas }

// JoinTokens yields the join tokens by id.
func (s *Snapshot) JoinTokens() Table[Row[*pb.JoinTokenRecord]] { return s.joinTokens }

// Authority is the certificate authority; its revision is 0 when there is none.
func (s *Snapshot) Authority() Row[*pb.AuthorityRecord] {
	r, _ := s.authority.Get("root")
	return r
}

// Definition is the task definition of a family:revision, nil if there is none.
func (s *Snapshot) Definition(id string) *pb.TaskDefinitionRecord {
	r, _ := s.definitions.Get(id)
	return r.Value
}

// DefinitionOf is the task definition that an ARN ends in
// (.../FAMILY:REVISION), nil if there is none.
func (s *Snapshot) DefinitionOf(arn string) *pb.TaskDefinitionRecord {
	return s.Definition(arn[strings.LastIndexByte(arn, '/')+1:])
}

// Service finds a service by its name.
func (s *Snapshot) Service(cluster, name string) (*Service, bool) {
	v, ok := s.services.Get(cluster + "/" + name)
	return v, ok && v.Record != nil
}

// Services yields a cluster's services by name; every cluster's if cluster is
// empty.
func (s *Snapshot) Services(cluster string) iter.Seq[*Service] {
	return values(s.services, cluster, func(v *Service) bool { return v.Record != nil })
}

// Task finds a task by its id.
func (s *Snapshot) Task(cluster, id string) (*Task, bool) {
	v, ok := s.tasks.Get(cluster + "/" + id)
	return v, ok && v.Record != nil
}

// Tasks yields a cluster's tasks by id, stopped ones too; every cluster's if
// cluster is empty.
func (s *Snapshot) Tasks(cluster string) iter.Seq[*Task] { return values(s.tasks, cluster, hasRecord) }

// OrphanStatuses yields the task statuses whose task is gone.
func (s *Snapshot) OrphanStatuses() iter.Seq[*Task] {
	return values(s.tasks, "", func(t *Task) bool { return t.Record == nil })
}

// TasksOfService yields a service's tasks by id, stopped ones too.
func (s *Snapshot) TasksOfService(cluster, service string) iter.Seq[*Task] {
	return values(s.tasksByService, cluster+"/"+service, hasRecord)
}

// TasksOfInstance yields the tasks bound to a container instance by id, stopped
// ones too.
func (s *Snapshot) TasksOfInstance(cluster, instance string) iter.Seq[*Task] {
	return values(s.tasksByInstance, cluster+"/"+instance, hasRecord)
}

// Unbound yields the tasks that wait for a placement by cluster and id.
func (s *Snapshot) Unbound() iter.Seq[*Task] { return values(s.unbound, "", hasRecord) }

// Instance finds a container instance by its id.
func (s *Snapshot) Instance(cluster, id string) (*Instance, bool) {
	v, ok := s.instances.Get(cluster + "/" + id)
	return v, ok && v.Record != nil
}

// Instances yields a cluster's container instances by id; every cluster's if
// cluster is empty.
func (s *Snapshot) Instances(cluster string) iter.Seq[*Instance] {
	return values(s.instances, cluster, func(v *Instance) bool { return v.Record != nil })
}

// Connected says whether a replica that is alive holds the host's session.
func (s *Snapshot) Connected(i *Instance) bool {
	if !i.Session.GetConnected() {
		return false
	}
	_, alive := s.replicas.Get(i.Session.GetReplica())
	return alive
}

func hasRecord(t *Task) bool { return t.Record != nil }

func values[T any](t Table[T], under string, keep func(T) bool) iter.Seq[T] {
	if under != "" {
		under += "/"
	}
	return func(yield func(T) bool) {
		for _, v := range t.Prefix(under) {
			if keep(v) && !yield(v) {
				return
			}
		}
	}
}
