package retention

import (
	"cmp"
	"slices"
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// Config is what operators may set. What is zero has the default.
type Config struct {
	// Tasks is how long stopped tasks are kept; 30 days by default.
	Tasks time.Duration
	// MaxTasks is how many stopped tasks are kept, of all clusters; 100,000 by
	// default. Those that stopped first go first.
	MaxTasks int
	// Services is how long deleted services can be described; 24 hours by
	// default.
	Services time.Duration
}

func (c Config) withDefaults() Config {
	return Config{
		Tasks:    cmp.Or(c.Tasks, 30*24*time.Hour),
		MaxTasks: cmp.Or(c.MaxTasks, 100_000),
		Services: cmp.Or(c.Services, 24*time.Hour),
	}
}

// The bounds of one step, and when to look again.
const (
	batchSize = 90
	batches   = 20
	period    = time.Minute
)

// Plan removes what is too old, a bounded number at a time.
func Plan(s *model.Snapshot, now time.Time, cfg Config) model.Plan {
	cfg = cfg.withDefaults()
	var writes model.Batch
	remove := func(kind model.Kind, cluster, id string, revision int64) {
		if revision != 0 && len(writes) < batchSize*batches {
			writes = append(writes, model.Write{Key: model.Key{Kind: kind, Cluster: cluster, ID: id}, If: revision})
		}
	}
	for _, t := range outdated(s, now, cfg) {
		remove(model.KindTask, t.Record.GetCluster(), t.Record.GetId(), t.RecordRevision)
	}
	for t := range s.OrphanStatuses() {
		remove(model.KindTaskStatus, t.Status.GetCluster(), t.Status.GetTask(), t.StatusRevision)
	}
	for svc := range s.Services("") {
		if svc.Status.GetInactive() && now.Sub(deletedAt(svc)) > cfg.Services {
			remove(model.KindService, svc.Status.GetCluster(), svc.Status.GetService(), svc.RecordRevision)
			remove(model.KindServiceStatus, svc.Status.GetCluster(), svc.Status.GetService(), svc.StatusRevision)
		}
	}
	for id, row := range s.JoinTokens().All() {
		if t := row.Value; t.GetUsesLeft() <= 0 || now.After(t.GetExpiresAt().AsTime()) {
			remove(model.KindJoinToken, "", id, row.Revision)
		}
	}
	var plan model.Plan
	for chunk := range slices.Chunk(writes, batchSize) {
		plan.Batches = append(plan.Batches, chunk)
	}
	plan.Wake(now.Add(period))
	return plan
}

// outdated are the stopped tasks that are kept no longer.
func outdated(s *model.Snapshot, now time.Time, cfg Config) (old []*model.Task) {
	var kept []*model.Task
	for t := range s.Tasks("") {
		switch at := t.StoppedAt(); {
		case at.IsZero():
		case now.Sub(at) > cfg.Tasks:
			old = append(old, t)
		default:
			kept = append(kept, t)
		}
	}
	if more := len(kept) - cfg.MaxTasks; more > 0 {
		slices.SortFunc(kept, func(a, b *model.Task) int { return a.StoppedAt().Compare(b.StoppedAt()) })
		old = append(old, kept[:more]...)
	}
	return old
}

// deletedAt is when an inactive service's last event was: the one that says so.
func deletedAt(svc *model.Service) time.Time {
	if events := svc.Status.GetEvents(); len(events) > 0 {
		return events[0].GetCreatedAt().AsTime()
	}
	return svc.Record.GetService().GetCreatedAt().AsTime()
}
