package dispatcher

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// statusesInBatch bounds the writes of one atomic batch.
const statusesInBatch = 50

// take stores what the host reports and acknowledges it.
func (s *session) take(ctx context.Context, received <-chan *pb.StatusBatch) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case b := <-received:
			rejected, err := s.store(ctx, b.GetStatuses())
			if err != nil {
				return err
			}
			ack := &pb.StatusAck{Sequence: b.GetSequence(), Rejected: rejected}
			if err := s.say(ctx, &pb.SessionResponse{Message: &pb.SessionResponse_Ack{Ack: ack}}); err != nil {
				return err
			}
		}
	}
}

// store writes the statuses that may be, and answers the ids of the others.
func (s *session) store(ctx context.Context, statuses []*pb.TaskStatusRecord) (rejected []string, err error) {
	st := s.d.cfg.Store
	snap := st.Snapshot()
	for len(statuses) > 0 {
		n := min(len(statuses), statusesInBatch)
		batch, bad := s.batch(snap, statuses[:n])
		if len(batch) > 0 {
			rev, err := st.Commit(ctx, batch, s.fence)
			switch {
			case errors.Is(err, store.ErrConflict):
				// A task was deleted in between: look again.
				if snap, err = st.After(ctx, snap.Revision+1); err != nil {
					return nil, err
				}
				continue
			case errors.Is(err, store.ErrFenced):
				return nil, errTakenOver
			case err != nil:
				return nil, status.Error(codes.Unavailable, fmt.Sprintf("store task status: %v", err))
			}
			if snap, err = st.After(ctx, rev); err != nil {
				return nil, err
			}
		}
		rejected = append(rejected, bad...)
		s.d.cfg.Metrics.statuses(len(batch), len(bad))
		statuses = statuses[n:]
	}
	return rejected, nil
}

// batch is the writes for those statuses that the host may report: of its own
// tasks, and forward.
func (s *session) batch(snap *model.Snapshot, statuses []*pb.TaskStatusRecord) (batch model.Batch, rejected []string) {
	for _, r := range statuses {
		t, ok := snap.Task(s.host.Cluster, r.GetTask())
		if !ok || t.Record.GetInstance() != s.host.Instance || !mayReport(t, r) {
			rejected = append(rejected, r.GetTask())
			continue
		}
		r.Cluster = s.host.Cluster
		batch = append(batch, model.Write{
			Key:   model.Key{Kind: model.KindTaskStatus, Cluster: s.host.Cluster, ID: r.GetTask()},
			Value: r, If: t.StatusRevision,
		})
	}
	return batch, rejected
}

// mayReport says whether a report follows what is known: no status moves
// backward, nothing follows STOPPED, and an older report than the stored one
// is dropped.
func mayReport(t *model.Task, r *pb.TaskStatusRecord) bool {
	to := taskstate.Parse(r.GetLastStatus())
	if to == taskstate.None || t.Stopped() || t.Status != nil && r.GetVersion() <= t.Status.GetVersion() {
		return false
	}
	return t.Status == nil || to >= t.LastStatus()
}
