package model

import (
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// Task joins a task's two records.
type Task struct {
	// Record is what the leader wants; it is never nil in a Snapshot's tables.
	Record *pb.TaskRecord
	// Status is what the host reported, nil before it did.
	Status *pb.TaskStatusRecord
	// RecordRevision and StatusRevision are the records' modification
	// revisions, 0 where there is no record.
	RecordRevision, StatusRevision int64
}

// Key is the key of the task's desired record.
func (t *Task) Key() Key {
	return Key{Kind: KindTask, Cluster: t.Record.GetCluster(), ID: t.Record.GetId()}
}

// LastStatus is where the task is: STOPPED once the leader or the host has
// ended it, else what the host reported, else PENDING when it is bound and
// PROVISIONING when it is not.
func (t *Task) LastStatus() taskstate.Status {
	if t.Record.GetStoppedAt() != nil {
		return taskstate.Stopped
	}
	if s := taskstate.Parse(t.Status.GetLastStatus()); s != taskstate.None {
		return s
	}
	if t.Record.GetInstance() != "" {
		return taskstate.Pending
	}
	return taskstate.Provisioning
}

// DesiredStatus is RUNNING or STOPPED.
func (t *Task) DesiredStatus() taskstate.Status {
	return taskstate.Parse(t.Record.GetTask().GetDesiredStatus())
}

// Stopped says whether nothing of the task is left.
func (t *Task) Stopped() bool { return t.LastStatus() == taskstate.Stopped }

// Holds says whether the task takes resources of a host: it is bound and has
// not stopped.
func (t *Task) Holds() bool { return t.Record.GetInstance() != "" && !t.Stopped() }

// StoppedAt is when the task stopped, zero if it did not.
func (t *Task) StoppedAt() time.Time {
	if at := t.Record.GetStoppedAt(); at != nil {
		return at.AsTime()
	}
	if t.Stopped() && t.Status.GetStoppedAt() != nil {
		return t.Status.GetStoppedAt().AsTime()
	}
	return time.Time{}
}

// View is the task as the API describes it: a new message joined from both
// records.
func (t *Task) View() *pb.Task {
	v := proto.CloneOf(t.Record.GetTask())
	s := t.Status
	v.LastStatus = t.LastStatus().String()
	v.Version = 1 + s.GetVersion()
	if t.DesiredStatus() == taskstate.Stopped {
		v.StopCode, v.StoppedReason = t.Record.GetStopCode(), t.Record.GetStoppedReason()
		v.StoppingAt = t.Record.GetStoppingAt()
	}
	if s != nil {
		s = proto.CloneOf(s)
		v.Containers, v.HealthStatus, v.Attachments = s.GetContainers(), s.GetHealthStatus(), s.GetAttachments()
		v.PullStartedAt, v.PullStoppedAt, v.StartedAt = s.GetPullStartedAt(), s.GetPullStoppedAt(), s.GetStartedAt()
		v.ExecutionStoppedAt, v.StoppedAt = s.GetExecutionStoppedAt(), s.GetStoppedAt()
		if s.GetStoppingAt() != nil {
			v.StoppingAt = s.GetStoppingAt()
		}
		if s.GetStopCode() != pb.TaskStopCode_TASK_STOP_CODE_UNSPECIFIED {
			v.StopCode, v.StoppedReason = s.GetStopCode(), s.GetStoppedReason()
		}
	}
	if at := t.Record.GetStoppedAt(); at != nil {
		v.StoppedAt = at
		for _, c := range v.Containers {
			c.LastStatus = taskstate.Stopped.String()
		}
	}
	if t.Stopped() {
		v.DesiredStatus = taskstate.Stopped.String()
	}
	return v
}
