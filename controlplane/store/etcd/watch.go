package etcd

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// The pause before the watch or a load is tried again after a failure, growing
// from the first to the second.
const (
	retryFirst = 20 * time.Millisecond
	retryLast  = 2 * time.Second
)

// follow keeps the snapshot current until ctx ends.
func (s *Store) follow(ctx context.Context) {
	pause := retryFirst
	for ctx.Err() == nil {
		before := s.Snapshot().Revision
		if err := s.watch(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("the watch ended and is started again", "revision", s.Snapshot().Revision, "err", err)
		}
		if s.Snapshot().Revision > before {
			pause = retryFirst
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		pause = min(2*pause, retryLast)
	}
}

// watch follows the store until the watch fails. If the watch cannot go on from
// the snapshot's revision, it loads everything again.
func (s *Store) watch(ctx context.Context) error {
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := s.cfg.Client.Watch(wctx, model.Prefix, clientv3.WithPrefix(), clientv3.WithRev(s.Snapshot().Revision+1))
	for resp := range events {
		if resp.CompactRevision > 0 {
			return s.reload(ctx)
		}
		if err := resp.Err(); err != nil {
			return err
		}
		if resp.IsProgressNotify() {
			s.publish(resp.Header.Revision, nil)
			continue
		}
		if len(resp.Events) > 0 {
			s.publish(resp.Events[len(resp.Events)-1].Kv.ModRevision, s.changes(resp.Events))
		}
	}
	return ctx.Err()
}

func (s *Store) changes(events []*clientv3.Event) []model.Change {
	changes := make([]model.Change, 0, len(events))
	for _, e := range events {
		if e.Type != clientv3.EventTypeDelete {
			if c, ok := s.decode(e.Kv); ok {
				changes = append(changes, c)
			}
			continue
		}
		if key, ok := recordKey(e.Kv.Key); ok {
			changes = append(changes, model.Change{Key: key, Revision: e.Kv.ModRevision})
		}
	}
	return changes
}

// publish makes the next snapshot; one that is not newer is dropped.
func (s *Store) publish(revision int64, changes []model.Change) {
	old := s.Snapshot()
	if revision <= old.Revision {
		return
	}
	next := old.With(revision, changes)
	s.metrics.revision.Set(float64(revision))
	s.Feed.Set(next, len(changes) > 0)
	if len(changes) > 0 {
		s.Feed.Notify(next, changes)
	}
}

// reload loads everything and publishes the difference to the snapshot.
func (s *Store) reload(ctx context.Context) error {
	s.metrics.reloads.Inc()
	loaded, err := s.load(ctx)
	if err != nil {
		return err
	}
	old := s.Snapshot()
	s.cfg.Logger.Info("the store was loaded again", "from", old.Revision, "to", loaded.Revision)
	s.publish(loaded.Revision, difference(old, loaded))
	return nil
}

// difference is the changes that lead from one snapshot to a later one.
func difference(from, to *model.Snapshot) []model.Change {
	revisions := map[model.Key]int64{}
	for r := range from.Records() {
		revisions[r.Key] = r.Revision
	}
	var changes []model.Change
	for r := range to.Records() {
		if revisions[r.Key] != r.Revision {
			changes = append(changes, r)
		}
		delete(revisions, r.Key)
	}
	for r := range from.Records() {
		if _, gone := revisions[r.Key]; gone {
			changes = append(changes, model.Change{Key: r.Key, Revision: to.Revision})
		}
	}
	return changes
}
