package dispatcher

import (
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// assignments is what the host does not know yet of the snapshot: a COMPLETE
// set at first, later an INCREMENTAL one, nil when nothing changed for it.
func (s *session) assignments(snap *model.Snapshot) *pb.Assignments {
	a := &pb.Assignments{Revision: snap.Revision, BaseRevision: s.base, Type: pb.Assignments_TYPE_INCREMENTAL}
	if s.base == 0 {
		a.Type, a.BaseRevision = pb.Assignments_TYPE_COMPLETE, 0
	}
	now := make(map[string]int64, len(s.sent))
	for t := range snap.TasksOfInstance(s.host.Cluster, s.host.Instance) {
		if t.Stopped() {
			continue
		}
		id := t.Record.GetId()
		now[id] = t.RecordRevision
		if s.sent[id] != t.RecordRevision {
			a.Updates = append(a.Updates, assignment(snap, t))
		}
	}
	for id := range s.sent {
		if _, ok := now[id]; !ok {
			a.Removes = append(a.Removes, id)
		}
	}
	if s.base != 0 && len(a.Updates) == 0 && len(a.Removes) == 0 {
		return nil
	}
	s.sent, s.base = now, snap.Revision
	return a
}

func assignment(snap *model.Snapshot, t *model.Task) *pb.Assignment {
	return &pb.Assignment{
		TaskId: t.Record.GetId(), Task: t.Record.GetTask(), Service: t.Record.GetService(),
		TaskDefinition: snap.DefinitionOf(t.Record.GetTask().GetTaskDefinitionArn()).GetTaskDefinition(),
		StopCode:       t.Record.GetStopCode(), StoppedReason: t.Record.GetStoppedReason(),
	}
}
