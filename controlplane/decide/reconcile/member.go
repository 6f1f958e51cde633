package reconcile

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// member is a task of the service that is alive, with what decisions ask of it.
type member struct {
	*model.Task
	// wanted: it is to run, and does not end by itself.
	wanted  bool
	healthy bool
	// current: it is of the primary deployment.
	current     bool
	draining    bool
	unreachable bool
}

// members are the tasks that are alive. Those that failed their health check are
// stopped here, and count as leaving.
func (w *work) members() []*member {
	proofs := w.proofs()
	all := make([]*member, 0, len(w.alive))
	for _, t := range w.alive {
		m := &member{
			Task: t, wanted: t.DesiredStatus() == taskstate.Running && !t.LastStatus().Ending(),
			current: t.Record.GetDeploymentId() == w.primary().GetDeployment().GetId(),
		}
		if t.Record.GetInstance() != "" {
			if i, ok := w.s.Instance(w.cluster(), t.Record.GetInstance()); ok {
				m.draining, m.unreachable = i.Status() != model.InstanceActive, !w.s.Connected(i)
			}
		}
		if m.wanted && t.Status.GetHealthStatus() == pb.HealthStatus_HEALTH_STATUS_UNHEALTHY {
			w.stop(t, unhealthyReason)
			m.wanted = false
		}
		m.healthy = w.healthy(t, proofs)
		all = append(all, m)
	}
	return all
}

// proofs is when each deployment is proven (by its id): when one of its tasks
// has run for the proving time with no failure since. One without a running
// task is not there.
func (w *work) proofs() map[string]time.Time {
	failed := map[string]time.Time{}
	for _, d := range w.status.GetDeployments() {
		if d.GetFailedAt() != nil {
			failed[d.GetDeployment().GetId()] = d.GetFailedAt().AsTime()
		}
	}
	proofs := make(map[string]time.Time, len(failed)+1)
	for _, t := range w.alive {
		from, ok := w.running(t)
		if !ok {
			continue
		}
		id := t.Record.GetDeploymentId()
		at := later(from, failed[id]).Add(w.cfg.ProvingTime)
		if old, ok := proofs[id]; !ok || at.Before(old) {
			proofs[id] = at
		}
	}
	return proofs
}

// healthy says whether the task counts as healthy.
func (w *work) healthy(t *model.Task, proofs map[string]time.Time) bool {
	from, ok := w.running(t)
	switch {
	case !ok || t.Status.GetHealthStatus() == pb.HealthStatus_HEALTH_STATUS_UNHEALTHY:
		return false
	case t.Status.GetHealthStatus() == pb.HealthStatus_HEALTH_STATUS_HEALTHY:
		return true
	case w.hasCheck(t):
		return false
	}
	at := from.Add(w.cfg.ProvingTime)
	if proof := proofs[t.Record.GetDeploymentId()]; proof.Before(at) {
		at = proof
	}
	if w.now.Before(at) {
		w.wake(at)
		return false
	}
	return true
}

func (w *work) hasCheck(t *model.Task) bool {
	for _, c := range w.s.DefinitionOf(t.Record.GetTask().GetTaskDefinitionArn()).GetTaskDefinition().GetContainerDefinitions() {
		if c.GetHealthCheck() != nil && (c.Essential == nil || c.GetEssential()) {
			return true
		}
	}
	return false
}

// running says since when the task is RUNNING. A host whose clock is ahead of
// this one would say a time that has not come: then it is since it was created.
func (w *work) running(t *model.Task) (time.Time, bool) {
	if t.LastStatus() != taskstate.Running || t.Status.GetStartedAt() == nil {
		return time.Time{}, false
	}
	from := t.Status.GetStartedAt().AsTime()
	if from.After(w.now) {
		from = t.Record.GetTask().GetCreatedAt().AsTime()
	}
	return from, true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// leaveFirst orders tasks by who is to leave first: those not placed, then
// those starting, those not healthy, those on hosts that drain or are not
// connected, and then the youngest.
func leaveFirst(tasks []*member) {
	rank := func(m *member) int {
		switch {
		case m.Record.GetInstance() == "":
			return 0
		case m.LastStatus().Starting():
			return 1
		case !m.healthy:
			return 2
		case m.draining || m.unreachable:
			return 3
		}
		return 4
	}
	slices.SortFunc(tasks, func(a, b *member) int {
		return cmp.Or(rank(a)-rank(b),
			b.Record.GetTask().GetCreatedAt().AsTime().Compare(a.Record.GetTask().GetCreatedAt().AsTime()),
			strings.Compare(a.Record.GetId(), b.Record.GetId()))
	})
}
