package runner

import (
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// adopt puts the task where an earlier agent left it.
func (t *task) adopt(s *pb.TaskStatusRecord, byID map[string]runtime.Container) {
	if s != nil {
		t.status = s
		t.ending = s.GetStoppingAt() != nil
		if t.ending {
			t.giveUp()
		}
	}
	for _, c := range t.containers {
		for _, out := range s.GetContainers() {
			if out.GetName() == c.def.GetName() {
				c.out = proto.CloneOf(out)
			}
		}
		seen, ok := byID[c.id]
		switch {
		case ok && seen.Status == runtime.Running:
			c.Phase, c.signal = Running, seen.StopSignal
			c.out.LastStatus = taskstate.Running.String()
		case ok && seen.Status == runtime.Created:
			c.Phase, c.signal, c.image = Created, seen.StopSignal, seen.Image
		case ok:
			c.Phase = Running
			t.exited(c, seen.ExitCode, seen.ExitedAt)
		case c.out.ExitCode != nil:
			// Its end was noted; it may have been removed already.
			c.Phase = Stopped
		case s.GetStartedAt() != nil:
			// It ran, and is gone: the host was off.
			c.Phase = Running
			c.out.Reason = "The container is gone: its host was restarted"
			t.exited(c, killed, t.r.cfg.Now())
		}
		if _, digest, found := strings.Cut(seen.Image, "@"); found && c.out.ImageDigest == "" {
			c.out.ImageDigest = digest
		}
		if a, found := t.r.cfg.Network.Get(c.id); found && ok && c.out.NetworkBindings == nil {
			for _, p := range a.Ports {
				c.out.NetworkBindings = append(c.out.NetworkBindings, binding(p))
			}
		}
	}
	if taskstate.Parse(t.a.GetTask().GetDesiredStatus()) == taskstate.Stopped {
		t.end(t.a.GetStopCode(), t.a.GetStoppedReason())
	}
	// Whether the last status was taken, and whether it was noted, is not known:
	// it is told again, newer than any that was told.
	t.status.Version += 1000
}
