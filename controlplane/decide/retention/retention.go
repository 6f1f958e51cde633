// Package retention decides which records are kept no longer: tasks that stopped
// long ago, services deleted long ago, statuses whose task is gone, and join
// tokens that nobody can use. It is pure.
package retention

import (
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// Config is what operators may set.
type Config struct {
	// Tasks is how long stopped tasks are kept.
	Tasks time.Duration
	// Services is how long deleted services can be described; 24 h when 0.
	Services time.Duration
}

// The bounds of one step, and when to look again.
const (
	batchSize = 90
	batches   = 20
	period    = time.Minute
)

// Plan removes what is too old, a bounded number at a time.
func Plan(s *model.Snapshot, now time.Time, cfg Config) model.Plan {
	if cfg.Services == 0 {
		cfg.Services = 24 * time.Hour
	}
	var writes model.Batch
	remove := func(kind model.Kind, cluster, id string, revision int64) {
		if revision != 0 && len(writes) < batchSize*batches {
			writes = append(writes, model.Write{Key: model.Key{Kind: kind, Cluster: cluster, ID: id}, If: revision})
		}
	}
	for t := range s.Tasks("") {
		if at := t.StoppedAt(); !at.IsZero() && now.Sub(at) > cfg.Tasks {
			remove(model.KindTask, t.Record.GetCluster(), t.Record.GetId(), t.RecordRevision)
		}
	}
	for t := range s.OrphanStatuses() {
		remove(model.KindTaskStatus, t.Status.GetCluster(), t.Status.GetTask(), t.StatusRevision)
	}
	for svc := range s.Services("") {
		if st := svc.Status; st.GetInactive() && len(st.GetEvents()) > 0 && now.Sub(st.GetEvents()[0].GetCreatedAt().AsTime()) > cfg.Services {
			remove(model.KindService, st.GetCluster(), st.GetService(), svc.RecordRevision)
			remove(model.KindServiceStatus, st.GetCluster(), st.GetService(), svc.StatusRevision)
		}
	}
	for id, row := range s.JoinTokens().All() {
		if t := row.Value; t.GetUsesLeft() <= 0 || now.After(t.GetExpiresAt().AsTime()) {
			remove(model.KindJoinToken, "", id, row.Revision)
		}
	}
	var plan model.Plan
	for len(writes) > 0 {
		n := min(batchSize, len(writes))
		plan.Batches = append(plan.Batches, writes[:n])
		writes = writes[n:]
	}
	plan.Wake(now.Add(period))
	return plan
}
