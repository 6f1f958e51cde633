package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/decide/liveness"
	"github.com/plimsoll-project/plimsoll/controlplane/decide/placement"
	"github.com/plimsoll-project/plimsoll/controlplane/decide/reconcile"
	"github.com/plimsoll-project/plimsoll/controlplane/decide/retention"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

const electionKey = "/plimsoll-leader/sim"

// leader is a replica's term: its fence and its loops.
type leader struct {
	sim   *Sim
	fence store.Fence
	since time.Time
	// wrote is the newest revision that its own placements are in: nothing is
	// placed again before the snapshot shows it.
	wrote int64
	loops []*loop
}

// loop is a decider in its shell.
type loop struct {
	name   string
	places bool
	plan   func(*model.Snapshot, time.Time) model.Plan
	// seen is the snapshot's revision at the last plan; wakeAt when to plan again
	// though it is the same.
	seen   int64
	wakeAt time.Time
}

// resync is how often a loop plans though nothing changed.
const resync = 30 * time.Second

const provingTime = time.Second

// elect starts a term. Who led goes on until a commit is refused.
func (s *Sim) elect() error {
	l := &leader{sim: s, fence: s.store.Elect(electionKey), since: s.now}
	s.say("a new leader, at revision %d", l.fence.Created)
	l.loops = []*loop{
		{name: "reconcile", places: true, plan: func(snap *model.Snapshot, now time.Time) model.Plan {
			p := reconcile.Plan(snap, now, reconcile.Config{ProvingTime: provingTime, Check: check})
			if err := s.checks.plan(snap, p, now); err != nil {
				s.checks.failed = err
			}
			return p
		}},
		{name: "placement", places: true, plan: func(snap *model.Snapshot, now time.Time) model.Plan {
			return placement.Writes(snap, placement.Plan(snap, slices.Collect(snap.Unbound()), placement.Config{Seed: s.cfg.Seed}), now)
		}},
		{name: "liveness", plan: func(snap *model.Snapshot, now time.Time) model.Plan {
			return liveness.Plan(snap, now, liveness.Config{TermStartedAt: l.since})
		}},
		{name: "retention", plan: func(snap *model.Snapshot, now time.Time) model.Plan {
			return retention.Plan(snap, now, retention.Config{})
		}},
	}
	s.leaders = append(s.leaders, l)
	return nil
}

func check(s *model.Snapshot, t *model.Task, instance string) string {
	if f := placement.Check(s, t, instance); f != nil {
		return f.Reason
	}
	return ""
}

// step runs each loop that is due. A leader that is refused as such is gone.
func (l *leader) step() error {
	for _, lp := range l.loops {
		err := l.turn(lp)
		if errors.Is(err, store.ErrFenced) {
			l.sim.leaders = slices.DeleteFunc(l.sim.leaders, func(o *leader) bool { return o == l })
			l.sim.say("the leader of revision %d is deposed", l.fence.Created)
			return nil
		}
		if err != nil {
			return err
		}
		if l.sim.checks.failed != nil {
			return l.sim.checks.failed
		}
	}
	return nil
}

// sees says whether the snapshot shows all that was placed before: by earlier
// leaders, who can write nothing since the term began, and by this one.
func (l *leader) sees(snap *model.Snapshot) bool {
	return snap.Revision >= l.fence.Created && snap.Revision >= l.wrote
}

func (l *leader) turn(lp *loop) error {
	s := l.sim
	snap := s.store.Snapshot()
	if lp.places && !l.sees(snap) ||
		snap.Revision == lp.seen && s.now.Before(lp.wakeAt) || !s.calm && s.chance(200) {
		return nil
	}
	plan := lp.plan(snap, s.now)
	lp.seen, lp.wakeAt = snap.Revision, s.now.Add(resync)
	if !plan.WakeAt.IsZero() && plan.WakeAt.Before(lp.wakeAt) {
		lp.wakeAt = plan.WakeAt
	}
	for _, b := range plan.Batches {
		if !s.calm && s.chance(s.cfg.Faults/4) {
			s.say("%s of revision %d stops in the middle", lp.name, l.fence.Created)
			return s.elect()
		}
		rev, err := s.store.Commit(context.Background(), b, l.fence)
		switch {
		case err == nil:
			s.say("%s writes %s and %d more", lp.name, b[0].Key, len(b)-1)
			if lp.places {
				l.wrote = rev
			}
		case errors.Is(err, store.ErrConflict):
			lp.wakeAt = s.now
		case errors.Is(err, store.ErrUnavailable):
			// The loop's error ends the term.
			s.say("%s of revision %d could not write", lp.name, l.fence.Created)
			return s.elect()
		default:
			return fmt.Errorf("commit of %s: %w", lp.name, err)
		}
	}
	return nil
}
