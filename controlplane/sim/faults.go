package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// misbehave has each kind of fault happen now and then.
func (s *Sim) misbehave() {
	fault := func(do func() error) {
		if s.chance(s.cfg.Faults / 5) {
			if err := do(); err != nil {
				s.checks.failed = err
			}
		}
	}
	h := s.hosts[s.rng.IntN(len(s.hosts))]
	fault(func() error { return h.cut(s.between(0, 40*time.Second)) })
	fault(func() error { h.reboot(); return h.cut(s.between(time.Second, 60*time.Second)) })
	fault(s.restart)
	fault(s.elect)
	if s.chance(s.cfg.Faults) {
		s.store.Hold()
	}
	if s.chance(s.cfg.Faults) {
		s.store.Release()
	}
}

// mend ends all faults. Users do what they must for services to converge: all
// hosts take tasks, and every service gets a task definition that runs.
func (s *Sim) mend() error {
	s.say("faults end")
	s.calm = true
	s.store.Release()
	var errs []error
	for _, h := range s.hosts {
		h.backAt = s.now
		errs = append(errs, s.state(h, model.InstanceActive))
	}
	for _, k := range kinds {
		if svc, ok := s.store.Truth().Service(clusterName, k.name); ok && svc.Record.GetService().GetStatus() == "ACTIVE" {
			errs = append(errs, s.set(k, true))
		}
	}
	for _, t := range slices.Collect(s.store.Truth().Tasks(clusterName)) {
		if t.Record.GetService() == "" && !t.Stopped() {
			errs = append(errs, s.stop(t))
		}
	}
	return errors.Join(errs...)
}
