package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/decide/placement"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// attempts bounds how often a placement is decided again because another
// writer was faster.
const attempts = 10

// Scheduler places tasks for API calls. It is a sync.Locker: whoever else binds
// tasks holds it from the snapshot that it decides on until the snapshot shows
// its writes.
type Scheduler struct {
	sync.Mutex
	Store store.Store
	// Fences are the leader's; an error says that this replica does not lead.
	Fences func() ([]store.Fence, error)
	Config placement.Config
}

// RunTasks places tasks that are not stored yet and stores those that found a
// host. The others are answered as failures, with ECS's reason.
func (s *Scheduler) RunTasks(ctx context.Context, tasks []*pb.TaskRecord) ([]*pb.TaskRecord, []*pb.Failure, error) {
	return s.place(ctx, func(snap *model.Snapshot) ([]*pb.TaskRecord, []*pb.Failure) {
		pending := make([]*model.Task, len(tasks))
		for i, t := range tasks {
			pending[i] = &model.Task{Record: t}
		}
		res := placement.Plan(snap, pending, s.Config)
		var placed []*pb.TaskRecord
		for _, b := range res.Bindings {
			placed = append(placed, bound(snap, b.Task.Record, b.Instance))
		}
		var failures []*pb.Failure
		for _, f := range res.Failures {
			failures = append(failures, &pb.Failure{Reason: f.Reason, Detail: f.Detail})
		}
		return placed, failures
	})
}

// StartTasks stores tasks whose instance the caller chose, where that instance
// can take them. The others are answered as failures that name the instance.
func (s *Scheduler) StartTasks(ctx context.Context, tasks []*pb.TaskRecord) ([]*pb.TaskRecord, []*pb.Failure, error) {
	return s.place(ctx, func(snap *model.Snapshot) ([]*pb.TaskRecord, []*pb.Failure) {
		var placed []*pb.TaskRecord
		var failures []*pb.Failure
		for _, t := range tasks {
			if f := placement.Check(snap, &model.Task{Record: t}, t.GetInstance()); f != nil {
				arn := t.GetTask().GetContainerInstanceArn()
				failures = append(failures, &pb.Failure{Arn: arn, Reason: f.Reason, Detail: f.Detail})
				continue
			}
			placed = append(placed, bound(snap, t, t.GetInstance()))
		}
		return placed, failures
	})
}

// place decides and commits under the lock, again while other writers are
// faster.
func (s *Scheduler) place(ctx context.Context, decide func(*model.Snapshot) ([]*pb.TaskRecord, []*pb.Failure)) ([]*pb.TaskRecord, []*pb.Failure, error) {
	s.Lock()
	defer s.Unlock()
	var err error
	for range attempts {
		var fences []store.Fence
		if fences, err = s.Fences(); err != nil {
			return nil, nil, err
		}
		snap := s.Store.Snapshot()
		placed, failures := decide(snap)
		if len(placed) == 0 {
			return nil, failures, nil
		}
		batch := make(model.Batch, len(placed))
		for i, t := range placed {
			batch[i] = model.Write{Key: model.Key{Kind: model.KindTask, Cluster: t.GetCluster(), ID: t.GetId()}, Value: t}
		}
		var rev int64
		if rev, err = s.Store.Commit(ctx, batch, fences...); err == nil {
			_, err = s.Store.After(ctx, rev)
			return placed, failures, err
		}
		if !errors.Is(err, store.ErrConflict) {
			break
		}
		if stored := s.stored(placed); stored != nil {
			return stored, failures, nil
		}
		if _, err := s.Store.After(ctx, snap.Revision+1); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("store placed tasks: %w", err)
}

// stored is the tasks as an earlier call with the same ids (a retried
// clientToken) stored them, nil unless all are there.
func (s *Scheduler) stored(tasks []*pb.TaskRecord) []*pb.TaskRecord {
	snap := s.Store.Snapshot()
	out := make([]*pb.TaskRecord, 0, len(tasks))
	for _, t := range tasks {
		old, ok := snap.Task(t.GetCluster(), t.GetId())
		if !ok {
			return nil
		}
		out = append(out, old.Record)
	}
	return out
}

func bound(snap *model.Snapshot, t *pb.TaskRecord, instance string) *pb.TaskRecord {
	t = proto.CloneOf(t)
	t.Instance = instance
	if i, ok := snap.Instance(t.GetCluster(), instance); ok {
		t.Task.ContainerInstanceArn = i.Record.GetInstance().GetContainerInstanceArn()
	}
	return t
}
