package server

import (
	"context"
	"fmt"
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/controller"
	"github.com/plimsoll-project/plimsoll/controlplane/decide/liveness"
	"github.com/plimsoll-project/plimsoll/controlplane/decide/placement"
	"github.com/plimsoll-project/plimsoll/controlplane/decide/reconcile"
	"github.com/plimsoll-project/plimsoll/controlplane/decide/retention"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

// lead is the leader's work: the controllers, until the term ends.
func (s *server) lead(ctx context.Context, fence store.Fence) error {
	// The leader before may have written what this replica's snapshot does not
	// show yet: nothing is decided before it does.
	last, err := s.etcd.client.Get(ctx, fence.Key)
	if err != nil {
		return fmt.Errorf("read the store's revision: %w", err)
	}
	if _, err := s.store.After(ctx, last.Header.Revision); err != nil {
		return err
	}
	since := time.Now()
	s.term.set(&fence, since)
	defer s.term.set(nil, since)
	s.cfg.Logger.Info("this replica leads", "replica", s.id)
	one := func(name string, lock bool, plan func(*model.Snapshot, time.Time) model.Plan) *controller.Controller {
		c := &controller.Controller{
			Name: name, Store: s.store, Fences: []store.Fence{fence}, Plan: plan, Logger: s.cfg.Logger, Metrics: s.controlled,
		}
		if lock {
			c.Lock = s.scheduler
		}
		return c
	}
	retain := one("retention", false, func(snap *model.Snapshot, now time.Time) model.Plan {
		return retention.Plan(snap, now, retention.Config{Tasks: s.cfg.TaskRetention})
	})
	// It looks at every task there is.
	retain.Timed, retain.Resync = true, time.Minute
	return controller.RunAll(ctx, retain,
		one("reconcile", true, func(snap *model.Snapshot, now time.Time) model.Plan {
			return reconcile.Plan(snap, now, reconcile.Config{ProvingTime: s.cfg.ProvingTime, Check: check})
		}),
		one("placement", true, func(snap *model.Snapshot, now time.Time) model.Plan {
			var pending []*model.Task
			for t := range snap.Unbound() {
				pending = append(pending, t)
			}
			if len(pending) == 0 {
				return model.Plan{}
			}
			return placement.Writes(snap, placement.Plan(snap, pending, placement.Config{}), now)
		}),
		one("liveness", false, func(snap *model.Snapshot, now time.Time) model.Plan {
			return liveness.Plan(snap, now, liveness.Config{LossTimeout: s.cfg.InstanceLossTimeout, TermStartedAt: since})
		}),
	)
}

// check is why a task cannot run on an instance, empty if it can.
func check(s *model.Snapshot, t *model.Task, instance string) string {
	if f := placement.Check(s, t, instance); f != nil {
		return f.Reason
	}
	return ""
}
