package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// host is a container instance with its agent.
type host struct {
	sim       *Sim
	id        string
	connected bool
	// backAt is when a host that is not connected comes back.
	backAt time.Time
	tasks  map[string]*local
}

// local is a task on its host.
type local struct {
	id      string
	bad     bool          // it fails where it would run
	life    time.Duration // how long it runs; zero for without end
	status  taskstate.Status
	sent    taskstate.Status // what the control plane was told
	started time.Time
	stopped time.Time
	// nextAt is when the status changes; zero for when told.
	nextAt time.Time
}

func instance(id string, n int) *pb.ContainerInstanceRecord {
	return &pb.ContainerInstanceRecord{Cluster: clusterName, Id: id, Instance: &pb.ContainerInstance{
		ContainerInstanceArn: "arn:aws:ecs:us-east-1:123456789012:container-instance/" + clusterName + "/" + id,
		RegisteredResources: []*pb.Resource{{Name: "CPU", IntegerValue: 4096}, {Name: "MEMORY", IntegerValue: 2048},
			{Name: "PORTS", StringSetValue: []string{"22"}}},
		Attributes: []*pb.Attribute{{Name: "ecs.availability-zone", Value: string(rune('a' + n%3))}},
	}}
}

func (h *host) connect() error {
	h.connected = true
	return h.sim.put(model.KindSession, clusterName, h.id, &pb.SessionRecord{Cluster: clusterName, Instance: h.id, Replica: h.sim.replica, Connected: true})
}

// disconnect cuts the host off for that long; what tells the control plane is
// that its replica is gone, or gone.
func (h *host) disconnect(d time.Duration) {
	h.connected, h.backAt = false, h.sim.now.Add(d)
}

// cut cuts the host off, and its replica notices.
func (h *host) cut(d time.Duration) error {
	h.sim.say("%s is cut off for %v", h.id, d)
	h.disconnect(d)
	return h.sim.put(model.KindSession, clusterName, h.id, &pb.SessionRecord{Cluster: clusterName, Instance: h.id, Replica: h.sim.replica})
}

// reboot ends all that runs.
func (h *host) reboot() {
	h.sim.say("%s loses power", h.id)
	for _, t := range h.tasks {
		if t.status != taskstate.Stopped {
			t.end(h.sim.now)
		}
	}
}

func (t *local) end(now time.Time) {
	t.status, t.stopped, t.nextAt = taskstate.Stopped, now, time.Time{}
}

// step is what the agent and its containers do.
func (h *host) step() error {
	if !h.connected && !h.sim.now.Before(h.backAt) {
		h.sim.say("%s is back", h.id)
		if err := h.connect(); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(h.tasks)) {
		h.tasks[id].advance(h.sim)
	}
	if !h.connected {
		return nil
	}
	if err := h.sync(); err != nil {
		return err
	}
	return h.report()
}

// advance is what containers do by themselves.
func (t *local) advance(s *Sim) {
	if t.status == taskstate.Running && !s.calm && s.chance(s.cfg.Faults/4) {
		s.say("task %.6s crashes", t.id)
		t.end(s.now)
	}
	if t.nextAt.IsZero() || s.now.Before(t.nextAt) {
		return
	}
	t.nextAt = time.Time{}
	switch {
	case t.status != taskstate.Pending || t.bad:
		t.end(s.now)
	default:
		t.status, t.started = taskstate.Running, s.now
		if t.life > 0 {
			t.nextAt = s.now.Add(t.life)
		}
	}
}

// sync takes up assignments: what is bound to the host in the snapshot.
func (h *host) sync() error {
	s := h.sim
	assigned := map[string]bool{}
	for t := range s.store.Snapshot().TasksOfInstance(clusterName, h.id) {
		id := t.Record.GetId()
		if t.Record.GetStoppedAt() != nil {
			continue
		}
		assigned[id] = true
		l := h.tasks[id]
		switch {
		case l == nil && t.Stopped():
		case l == nil:
			l = &local{id: id, bad: bad(t.Record), status: taskstate.Pending, nextAt: s.now.Add(s.between(0, 2*time.Second))}
			if t.Record.GetService() == "" {
				l.life = s.between(time.Second, time.Minute)
			}
			h.tasks[id] = l
		case l.status < taskstate.Stopping && t.DesiredStatus() == taskstate.Stopped:
			l.status, l.nextAt = taskstate.Stopping, s.now.Add(s.between(0, 3*time.Second))
		}
	}
	for id, l := range h.tasks {
		if !assigned[id] && l.status != taskstate.Stopped {
			// It was given up while the host was away.
			l.end(s.now)
			l.sent = taskstate.Stopped
		}
	}
	return nil
}

func bad(r *pb.TaskRecord) bool {
	return strings.HasSuffix(r.GetTask().GetTaskDefinitionArn(), fmt.Sprintf(":%d", badDefinition))
}

// report tells what changed, with delay.
func (h *host) report() error {
	s := h.sim
	for _, id := range slices.Sorted(maps.Keys(h.tasks)) {
		l := h.tasks[id]
		if l.sent == l.status || !s.calm && s.chance(500) {
			continue
		}
		t, ok := s.store.Truth().Task(clusterName, id)
		if !ok {
			continue
		}
		r := &pb.TaskStatusRecord{Cluster: clusterName, Task: id}
		if t.Status != nil {
			r = proto.CloneOf(t.Status)
		}
		if !taskstate.Parse(r.GetLastStatus()).CanMove(l.status) {
			return fmt.Errorf("task %s goes from %s to %s on %s", id, r.GetLastStatus(), l.status, h.id)
		}
		r.LastStatus, r.Version = l.status.String(), r.GetVersion()+1
		if !l.started.IsZero() {
			r.StartedAt = timestamppb.New(l.started)
		}
		if l.status == taskstate.Stopped {
			r.StoppedAt, r.StopCode = timestamppb.New(l.stopped), pb.TaskStopCode_TASK_STOP_CODE_ESSENTIAL_CONTAINER_EXITED
		}
		if err := s.put(model.KindTaskStatus, clusterName, id, r); err != nil {
			return err
		}
		l.sent = l.status
	}
	return nil
}
