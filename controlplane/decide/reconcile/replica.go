package reconcile

import (
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// replica takes a REPLICA service's next step.
func (w *work) replica() {
	desired := int(w.desire.GetDesiredCount())
	minimum, maximum := bounds(w.desire.GetDeploymentConfiguration(), desired, 100, 200)
	var primary, stale []*member
	healthy, healthyPrimary, occupied := 0, 0, 0
	for _, m := range w.members() {
		if m.LastStatus() <= taskstate.Running {
			occupied++
		}
		switch {
		case !m.wanted:
			continue
		case m.current && !m.draining:
			primary = append(primary, m)
			if m.healthy {
				healthyPrimary++
			}
		case m.Record.GetInstance() == "":
			// It serves nobody, and might take a new one's place.
			w.stop(m.Task, w.scaling())
			continue
		default:
			stale = append(stale, m)
		}
		if m.healthy {
			healthy++
		}
	}

	// Too many: the user scaled in.
	if over := len(primary) - desired; over > 0 {
		leaveFirst(primary)
		for _, m := range primary[:over] {
			if m.healthy {
				healthy--
				healthyPrimary--
			}
			w.stop(m.Task, w.scaling())
		}
		primary = primary[over:]
	}

	missing := desired - len(primary)
	halted := w.halted()
	// Stale tasks go when healthy primary ones have taken their place...
	leave := len(stale) - max(0, desired-healthyPrimary)
	if !halted && missing > 0 {
		// ... or to make room for those, where the maximum leaves none.
		leave = max(leave, min(missing, len(primary)+len(stale)+missing-maximum))
	}
	left := w.leave(stale, leave, healthy-minimum)
	if !halted {
		w.launch(min(missing, maximum-occupied))
		if missing > 0 && healthy == len(w.alive) && len(w.creates)+len(w.stops) == 0 && left > 0 {
			w.tellOnce("was unable to stop or start tasks during a deployment because of the service deployment configuration. " +
				"Update the minimumHealthyPercent or maximumPercent value and try again.")
		}
	}
	w.settle(len(primary) == desired && healthyPrimary == desired && left == 0 && len(w.stops) == 0 && len(w.creates) == 0)
}

// leave stops n of the stale tasks, and no more healthy ones than can be spared.
// It answers how many are left.
func (w *work) leave(stale []*member, n, spare int) (left int) {
	left = len(stale)
	if n <= 0 {
		return left
	}
	leaveFirst(stale)
	for _, m := range stale {
		if n <= 0 {
			break
		}
		if m.healthy {
			if spare <= 0 {
				continue
			}
			spare--
		}
		n--
		left--
		w.stop(m.Task, w.scaling())
	}
	return left
}

// bounds are the minimum of healthy and the maximum of all tasks; the percents
// are those that count where none are set.
func bounds(c *pb.DeploymentConfiguration, desired int, minimumPercent, maximumPercent int32) (minimum, maximum int) {
	if c != nil && c.MinimumHealthyPercent != nil {
		minimumPercent = c.GetMinimumHealthyPercent()
	}
	if c != nil && c.MaximumPercent != nil {
		maximumPercent = c.GetMaximumPercent()
	}
	return (desired*int(minimumPercent) + 99) / 100, desired * int(maximumPercent) / 100
}
