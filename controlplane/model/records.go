package model

import (
	"iter"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Records yields every record with its modification revision, as the changes
// that would make this snapshot of an empty one. The order is the kinds', and
// in a kind the keys'.
func (s *Snapshot) Records() iter.Seq[Change] {
	return func(yield func(Change) bool) {
		_ = rowRecords(KindCluster, s.clusters, yield) &&
			rowRecords(KindFamily, s.families, yield) &&
			rowRecords(KindDefinition, s.definitions, yield) &&
			rowRecords(KindReplica, s.replicas, yield) &&
			rowRecords(KindJoinToken, s.joinTokens, yield) &&
			rowRecords(KindAuthority, s.authority, yield) &&
			partRecords(KindService, s.services, yield, func(v *Service) (proto.Message, int64) { return v.Record, v.RecordRevision }) &&
			partRecords(KindServiceStatus, s.services, yield, func(v *Service) (proto.Message, int64) { return v.Status, v.StatusRevision }) &&
			partRecords(KindTask, s.tasks, yield, func(v *Task) (proto.Message, int64) { return v.Record, v.RecordRevision }) &&
			partRecords(KindTaskStatus, s.tasks, yield, func(v *Task) (proto.Message, int64) { return v.Status, v.StatusRevision }) &&
			partRecords(KindInstance, s.instances, yield, func(v *Instance) (proto.Message, int64) { return v.Record, v.RecordRevision }) &&
			partRecords(KindInstanceState, s.instances, yield, func(v *Instance) (proto.Message, int64) { return v.State, v.StateRevision }) &&
			partRecords(KindSession, s.instances, yield, func(v *Instance) (proto.Message, int64) { return v.Session, v.SessionRevision }) &&
			partRecords(KindLiveness, s.instances, yield, func(v *Instance) (proto.Message, int64) { return v.Liveness, v.LivenessRevision })
	}
}

func rowRecords[T proto.Message](kind Kind, t Table[Row[T]], yield func(Change) bool) bool {
	for id, row := range t.All() {
		if !yield(Change{Key: Key{Kind: kind, ID: id}, Value: row.Value, Revision: row.Revision}) {
			return false
		}
	}
	return true
}

// partRecords yields one of the records that are joined in a row; a part that
// is not there is a nil message.
func partRecords[T any](kind Kind, t Table[T], yield func(Change) bool, part func(T) (proto.Message, int64)) bool {
	for key, row := range t.All() {
		value, revision := part(row)
		if !value.ProtoReflect().IsValid() {
			continue
		}
		cluster, id, _ := strings.Cut(key, "/")
		if !yield(Change{Key: Key{Kind: kind, Cluster: cluster, ID: id}, Value: value, Revision: revision}) {
			return false
		}
	}
	return true
}
