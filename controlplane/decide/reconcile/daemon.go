package reconcile

import (
	"maps"
	"slices"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// daemon takes a DAEMON service's next step: one task on each container instance
// that is ACTIVE, connected and can take it.
func (w *work) daemon() {
	on := map[string][]*member{}
	healthy := 0
	for _, m := range w.members() {
		on[m.Record.GetInstance()] = append(on[m.Record.GetInstance()], m)
		if m.wanted && m.healthy {
			healthy++
		}
	}
	var targets []*model.Instance
	for i := range w.s.Instances(w.cluster()) {
		if i.Status() == model.InstanceActive && w.s.Connected(i) && !i.Impaired() && (len(on[i.Record.GetId()]) > 0 || w.takes(i)) {
			targets = append(targets, i)
		}
	}
	minimum, _ := bounds(w.desire.GetDeploymentConfiguration(), len(targets), 0, 100)
	spare, settled, halted := healthy-minimum, true, w.halted()
	for _, i := range targets {
		settled = w.daemonOn(i, on[i.Record.GetId()], &spare, halted) && settled
		delete(on, i.Record.GetId())
	}
	for _, id := range slices.Sorted(maps.Keys(on)) {
		i, ok := w.s.Instance(w.cluster(), id)
		for _, m := range on[id] {
			// On a draining host daemons leave last.
			if m.wanted && (!ok || i.Status() != model.InstanceActive && !w.others(i)) {
				w.stop(m.Task, w.scaling())
			}
		}
	}
	w.primary().Deployment.DesiredCount = int32(len(targets))
	w.settle(settled && len(w.stops) == 0 && len(w.creates) == 0)
}

// daemonOn sees to one host; it answers whether all is as it is to be.
func (w *work) daemonOn(i *model.Instance, tasks []*member, spare *int, halted bool) bool {
	has, settled := false, false
	for _, m := range tasks {
		switch {
		case !m.wanted:
		case m.current && !has:
			has, settled = true, m.healthy
		case m.current || !halted && (*spare > 0 || !m.healthy):
			if m.healthy {
				*spare--
			}
			w.stop(m.Task, w.scaling())
		}
	}
	if len(tasks) == 0 && !halted {
		w.launchOn(i)
	}
	return settled && len(tasks) == 1
}

// takes says whether the host can take the daemon.
func (w *work) takes(i *model.Instance) bool {
	t := w.newTask(0)
	return t != nil && (w.cfg.Check == nil || w.cfg.Check(w.s, &model.Task{Record: t}, i.Record.GetId()) == "")
}

// others says whether tasks of services that are no daemons are still to run on
// the host.
func (w *work) others(i *model.Instance) bool {
	for t := range w.s.TasksOfInstance(w.cluster(), i.Record.GetId()) {
		if svc, ok := w.s.Service(w.cluster(), t.Record.GetService()); ok && !t.Stopped() &&
			svc.Record.GetService().GetSchedulingStrategy() != w.desire.GetSchedulingStrategy() {
			return true
		}
	}
	return false
}
