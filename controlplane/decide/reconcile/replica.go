package reconcile

import (
	"cmp"
	"slices"
	"strings"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// replica takes a REPLICA service's next step.
func (w *work) replica() {
	desired := int(w.desire.GetDesiredCount())
	minimum, maximum := bounds(w.desire.GetDeploymentConfiguration(), desired, 100, 200)
	var primary, stale []*model.Task
	healthy := 0
	healthyPrimary := 0
	for _, t := range w.alive {
		if !wanted(t) {
			continue
		}
		h := w.healthy(t)
		if h {
			healthy++
		}
		if t.Record.GetDeploymentId() == w.primary().GetDeployment().GetId() && !w.draining(t) {
			primary = append(primary, t)
			if h {
				healthyPrimary++
			}
		} else {
			stale = append(stale, t)
		}
	}
	w.leaveFirst(primary)
	w.leaveFirst(stale)

	// Too many: the user scaled in.
	if over := len(primary) - desired; over > 0 {
		for _, t := range primary[:over] {
			if w.healthy(t) {
				healthy--
			}
			w.stop(t, "Scaling activity initiated by (deployment "+w.primary().GetDeployment().GetId()+")")
		}
		primary = primary[over:]
	}

	missing := desired - len(primary)
	halted := w.halted()
	spare := healthy - minimum // healthy tasks that may go
	go1 := len(stale) - max(0, desired-healthyPrimary)
	if !halted && missing > 0 {
		// Room for those that are missing, where the maximum leaves none.
		go1 = max(go1, min(missing, len(primary)+len(stale)+missing-maximum))
	}
	left := len(stale)
	for _, t := range stale {
		if go1 <= 0 {
			break
		}
		if w.healthy(t) {
			if spare <= 0 {
				continue
			}
			spare--
		}
		go1--
		left--
		w.stop(t, "Scaling activity initiated by (deployment "+w.primary().GetDeployment().GetId()+")")
	}
	if !halted {
		w.launch(min(missing, maximum-len(primary)-left))
	}
	w.settle(len(primary) == desired && healthyPrimary == desired && left == 0 && len(w.stops) == 0 && len(w.creates) == 0)
}

// bounds are the minimum of healthy and the maximum of wanted tasks.
func bounds(c *pb.DeploymentConfiguration, desired int, minimumPercent, maximumPercent int32) (minimum, maximum int) {
	if c.GetMinimumHealthyPercent() != 0 || c != nil && c.MinimumHealthyPercent != nil {
		minimumPercent = c.GetMinimumHealthyPercent()
	}
	if c != nil && c.MaximumPercent != nil {
		maximumPercent = c.GetMaximumPercent()
	}
	return (desired*int(minimumPercent) + 99) / 100, desired * int(maximumPercent) / 100
}

// leaveFirst orders tasks by who is to leave first: those not placed, then
// those starting, then those on hosts that drain or are not connected, then the
// youngest.
func (w *work) leaveFirst(tasks []*model.Task) {
	rank := func(t *model.Task) int {
		switch {
		case t.Record.GetInstance() == "":
			return 0
		case t.LastStatus() < taskstate.Running:
			return 1
		case !w.healthy(t):
			return 2
		case w.draining(t) || w.unreachable(t):
			return 3
		}
		return 4
	}
	slices.SortFunc(tasks, func(a, b *model.Task) int {
		return cmp.Or(rank(a)-rank(b),
			b.Record.GetTask().GetCreatedAt().AsTime().Compare(a.Record.GetTask().GetCreatedAt().AsTime()),
			strings.Compare(a.Record.GetId(), b.Record.GetId()))
	})
}

func (w *work) instance(t *model.Task) (*model.Instance, bool) {
	if t.Record.GetInstance() == "" {
		return nil, false
	}
	return w.s.Instance(w.cluster(), t.Record.GetInstance())
}

func (w *work) draining(t *model.Task) bool {
	i, ok := w.instance(t)
	return ok && i.Status() != model.InstanceActive
}

func (w *work) unreachable(t *model.Task) bool {
	i, ok := w.instance(t)
	return ok && !w.s.Connected(i)
}
