package reconcile

import (
	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// daemon takes a DAEMON service's next step: one task on each container instance
// that is ACTIVE, connected and can take it.
func (w *work) daemon() {
	on := map[string][]*model.Task{}
	healthy := 0
	for _, t := range w.alive {
		on[t.Record.GetInstance()] = append(on[t.Record.GetInstance()], t)
		if wanted(t) && w.healthy(t) {
			healthy++
		}
	}
	var targets []*model.Instance
	for i := range w.s.Instances(w.cluster()) {
		if i.Status() == model.InstanceActive && w.s.Connected(i) && (len(on[i.Record.GetId()]) > 0 || w.takes(i)) {
			targets = append(targets, i)
		}
	}
	minimum, _ := bounds(w.desire.GetDeploymentConfiguration(), len(targets), 0, 100)
	spare := healthy - minimum
	reason := "Scaling activity initiated by (deployment " + w.primary().GetDeployment().GetId() + ")"
	settled := true
	for _, i := range targets {
		settled = w.daemonOn(i, on[i.Record.GetId()], &spare, reason) && settled
		delete(on, i.Record.GetId())
	}
	for id, tasks := range on {
		i, ok := w.s.Instance(w.cluster(), id)
		for _, t := range tasks {
			// On a draining host daemons leave last.
			if wanted(t) && (!ok || i.Status() != model.InstanceActive && !w.others(i)) {
				w.stop(t, reason)
			}
		}
	}
	w.primary().Deployment.DesiredCount = int32(len(targets))
	w.settle(settled && len(w.stops) == 0 && len(w.creates) == 0)
}

// daemonOn sees to one host; it answers whether all is as it is to be.
func (w *work) daemonOn(i *model.Instance, tasks []*model.Task, spare *int, reason string) bool {
	has := false
	for _, t := range tasks {
		current := t.Record.GetDeploymentId() == w.primary().GetDeployment().GetId()
		switch {
		case !wanted(t):
		case current && !has:
			has = w.healthy(t)
			if !has {
				return false
			}
		case current || !w.halted() && (*spare > 0 || !w.healthy(t)):
			if w.healthy(t) {
				*spare--
			}
			w.stop(t, reason)
		}
	}
	if len(tasks) == 0 && !w.halted() {
		w.launchOn(i)
	}
	return has && len(tasks) == 1
}

// takes says whether the host can take the daemon.
func (w *work) takes(i *model.Instance) bool {
	t := w.newTask(0)
	return t != nil && (w.cfg.Check == nil || w.cfg.Check(w.s, &model.Task{Record: t}, i.Record.GetId()) == "")
}

// others says whether tasks that are no daemons still are on the host.
func (w *work) others(i *model.Instance) bool {
	for t := range w.s.TasksOfInstance(w.cluster(), i.Record.GetId()) {
		if svc, ok := w.s.Service(w.cluster(), t.Record.GetService()); ok && !t.Stopped() && wanted(t) &&
			svc.Record.GetService().GetSchedulingStrategy() != w.desire.GetSchedulingStrategy() {
			return true
		}
	}
	return false
}
