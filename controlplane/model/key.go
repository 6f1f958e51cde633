package model

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Kind names a table of the store.
type Kind string

// The kinds, each with the record it holds.
const (
	KindCluster       Kind = "clusters"         // ClusterRecord; id is the name, cluster is empty
	KindFamily        Kind = "families"         // TaskDefinitionFamilyRecord; id is the family, cluster is empty
	KindDefinition    Kind = "task-definitions" // TaskDefinitionRecord; id is family:revision, cluster is empty
	KindService       Kind = "services"         // ServiceRecord; id is the name
	KindServiceStatus Kind = "service-status"   // ServiceStatusRecord; id is the service's name
	KindTask          Kind = "tasks"            // TaskRecord; id is the task's id
	KindTaskStatus    Kind = "task-status"      // TaskStatusRecord; id is the task's id
	KindInstance      Kind = "instances"        // ContainerInstanceRecord; id is the instance's id
	KindInstanceState Kind = "instance-state"   // ContainerInstanceStateRecord
	KindSession       Kind = "sessions"         // SessionRecord; id is the instance's id
	KindLiveness      Kind = "liveness"         // InstanceLivenessRecord; id is the instance's id
	KindReplica       Kind = "replicas"         // ReplicaRecord; cluster is empty
	KindJoinToken     Kind = "join-tokens"      // JoinTokenRecord; cluster is empty
	KindAuthority     Kind = "authority"        // AuthorityRecord; id is "root", cluster is empty
)

// Global says whether the kind's records belong to no cluster.
func (k Kind) Global() bool {
	switch k {
	case KindCluster, KindFamily, KindDefinition, KindReplica, KindJoinToken, KindAuthority:
		return true
	}
	return false
}

// Prefix is the etcd key under which all records stand.
const Prefix = "/plimsoll/"

// global stands for the cluster in the keys of records that belong to none.
const global = "-"

// Key names one record.
type Key struct {
	Kind Kind
	// Cluster is the cluster's short name, empty for kinds that belong to none.
	Cluster string
	ID      string
}

// String is the record's key in etcd: /plimsoll/<kind>/<cluster>/<id>.
func (k Key) String() string {
	cluster := k.Cluster
	if cluster == "" {
		cluster = global
	}
	return Prefix + string(k.Kind) + "/" + cluster + "/" + k.ID
}

// ParseKey is the inverse of String. It fails on a key that is not a record's.
func ParseKey(s string) (Key, error) {
	rest, ok := strings.CutPrefix(s, Prefix)
	parts := strings.SplitN(rest, "/", 3)
	if !ok || len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return Key{}, fmt.Errorf("key %q is not %s<kind>/<cluster>/<id>", s, Prefix)
	}
	k := Key{Kind: Kind(parts[0]), Cluster: parts[1], ID: parts[2]}
	if k.Cluster == global {
		k.Cluster = ""
	}
	return k, nil
}

// NewRecord makes an empty record of the kind, nil if there is no such kind.
func NewRecord(kind Kind) proto.Message {
	switch kind {
	case KindCluster:
		return &pb.ClusterRecord{}
	case KindFamily:
		return &pb.TaskDefinitionFamilyRecord{}
	case KindDefinition:
		return &pb.TaskDefinitionRecord{}
	case KindService:
		return &pb.ServiceRecord{}
	case KindServiceStatus:
		return &pb.ServiceStatusRecord{}
	case KindTask:
		return &pb.TaskRecord{}
	case KindTaskStatus:
		return &pb.TaskStatusRecord{}
	case KindInstance:
		return &pb.ContainerInstanceRecord{}
	case KindInstanceState:
		return &pb.ContainerInstanceStateRecord{}
	case KindSession:
		return &pb.SessionRecord{}
	case KindLiveness:
		return &pb.InstanceLivenessRecord{}
	case KindReplica:
		return &pb.ReplicaRecord{}
	case KindJoinToken:
		return &pb.JoinTokenRecord{}
	case KindAuthority:
		return &pb.AuthorityRecord{}
	}
	return nil
}

// DefinitionID is the id of a task definition's record: family:revision.
func DefinitionID(family string, revision int32) string {
	return fmt.Sprintf("%s:%d", family, revision)
}
