package liveness

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// DefaultLossTimeout is Config's LossTimeout where that is not set.
const DefaultLossTimeout = 15 * time.Second

// Config is what operators may set.
type Config struct {
	// LossTimeout is how long a host may be unreachable; DefaultLossTimeout if
	// zero.
	LossTimeout time.Duration
	// TermStartedAt is when this leader began: it judges nobody by the time
	// before, in which nobody may have been there to connect to.
	TermStartedAt time.Time
}

// batchSize bounds the tasks that one transaction gives up.
const batchSize = 90

// Plan notes who is unreachable and gives up the tasks of who is lost, or was
// deregistered. A host that is connected again is noted too.
func Plan(s *model.Snapshot, now time.Time, cfg Config) model.Plan {
	if cfg.LossTimeout <= 0 {
		cfg.LossTimeout = DefaultLossTimeout
	}
	var plan model.Plan
	for i := range s.Instances("") {
		judge(s, i, now, cfg, &plan)
	}
	return plan
}

func judge(s *model.Snapshot, i *model.Instance, now time.Time, cfg Config, plan *model.Plan) {
	cluster, id := i.Record.GetCluster(), i.Record.GetId()
	key := model.Key{Kind: model.KindLiveness, Cluster: cluster, ID: id}
	if i.Status() == model.InstanceInactive {
		giveUp(s, i, now, "Container instance "+id+" was deregistered", nil, plan)
		return
	}
	if s.Connected(i) {
		if i.Liveness != nil {
			plan.Batches = append(plan.Batches, model.Batch{{Key: key, If: i.LivenessRevision}})
		}
		return
	}
	if i.Liveness == nil {
		plan.Wake(now.Add(cfg.LossTimeout))
		plan.Batches = append(plan.Batches, model.Batch{{Key: key, Value: &pb.InstanceLivenessRecord{
			Cluster: cluster, Instance: id, UnreachableSince: timestamppb.New(now)}}})
		return
	}
	away := now.Sub(i.Liveness.GetUnreachableSince().AsTime())
	reason := fmt.Sprintf("Host lost: container instance %s unreachable for %.0f s", id, away.Seconds())
	if i.Liveness.GetLost() {
		giveUp(s, i, now, reason, nil, plan)
		return
	}
	since := i.Liveness.GetUnreachableSince().AsTime()
	if cfg.TermStartedAt.After(since) {
		since = cfg.TermStartedAt
	}
	if lostAt := since.Add(cfg.LossTimeout); now.Before(lostAt) {
		plan.Wake(lostAt)
		return
	}
	lost := proto.CloneOf(i.Liveness)
	lost.Lost = true
	giveUp(s, i, now, reason, &model.Write{Key: key, Value: lost, If: i.LivenessRevision}, plan)
}

// giveUp ends the host's tasks in the records; the mark goes with the last batch.
func giveUp(s *model.Snapshot, i *model.Instance, now time.Time, reason string, mark *model.Write, plan *model.Plan) {
	var batch model.Batch
	for t := range s.TasksOfInstance(i.Record.GetCluster(), i.Record.GetId()) {
		if t.Stopped() {
			continue
		}
		r := proto.CloneOf(t.Record)
		r.StoppedAt = timestamppb.New(now)
		if t.DesiredStatus() != taskstate.Stopped {
			r.Task.DesiredStatus = taskstate.Stopped.String()
			r.StopCode, r.StoppedReason, r.StoppingAt = pb.TaskStopCode_TASK_STOP_CODE_TERMINATION_NOTICE, reason, r.GetStoppedAt()
		}
		batch = append(batch, model.Write{Key: t.Key(), Value: r, If: t.RecordRevision})
		if len(batch) == batchSize {
			plan.Batches = append(plan.Batches, batch)
			// The rest follows once these are written.
			return
		}
	}
	if mark != nil {
		batch = append(batch, *mark)
	}
	if len(batch) > 0 {
		plan.Batches = append(plan.Batches, batch)
	}
}
