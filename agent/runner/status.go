package runner

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// report tells the task's status if it changed.
func (t *task) report() {
	last := taskstate.Pending
	running := 0
	for _, c := range t.containers {
		if c.Phase >= Running {
			running++
		}
	}
	switch {
	case t.ending && t.status.GetStartedAt() != nil, t.ending && running > 0:
		last = taskstate.Stopping
	case t.ending:
		last = taskstate.Deprovisioning
	case running == len(t.containers):
		last = taskstate.Running
		if t.status.StartedAt == nil {
			t.status.StartedAt = timestamppb.New(t.r.cfg.Now())
		}
	}
	t.publish(last)
}

func (t *task) publish(last taskstate.Status) {
	s := proto.CloneOf(t.status)
	if old := taskstate.Parse(s.GetLastStatus()); last < old {
		last = old
	}
	s.LastStatus = last.String()
	s.Containers = nil
	for _, c := range t.containers {
		s.Containers = append(s.Containers, proto.CloneOf(c.out))
	}
	if proto.Equal(s, t.told) {
		return
	}
	if from := t.status.GetLastStatus(); from != s.GetLastStatus() {
		t.r.cfg.Logger.Info("task status", "task", s.GetTask(), "from", from, "to", s.GetLastStatus())
	}
	s.Version++
	t.status, t.told = s, proto.CloneOf(s)
	t.r.cfg.Report(t.told)
	// Until a task runs, all of its status can be read from its containers and
	// network; that spares launches the disk.
	if last < taskstate.Running {
		return
	}
	if err := t.r.cfg.Journal.Note(s); err != nil {
		t.r.cfg.Logger.Error("note a task's status", "task", s.GetTask(), "err", err)
	}
}
