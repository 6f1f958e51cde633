package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// checks remembers what it takes to see that something did not hold.
type checks struct {
	bound  map[string]string           // task -> host
	status map[string]taskstate.Status // task -> last status
	// revision is the last one seen, and same for how many steps.
	revision int64
	same     int
	// failed is what a check within a step found.
	failed error
}

func newChecks() *checks {
	return &checks{bound: map[string]string{}, status: map[string]taskstate.Status{}}
}

// unchanged is for how many steps the store is at the revision.
func (c *checks) unchanged(revision int64) int {
	if revision != c.revision {
		return 0
	}
	return c.same
}

// truth checks what is stored.
func (c *checks) truth(s *model.Snapshot) error {
	if c.failed != nil {
		return c.failed
	}
	if c.same++; s.Revision == c.revision {
		return nil
	}
	c.revision, c.same = s.Revision, 0
	for t := range s.Tasks("") {
		id, host := t.Record.GetId(), t.Record.GetInstance()
		if was := c.bound[id]; was != "" && was != host {
			return fmt.Errorf("task %s was bound to %s and is now to %q", id, was, host)
		}
		c.bound[id] = host
		if was := c.status[id]; t.LastStatus() < was {
			return fmt.Errorf("task %s was %s and is now %s", id, was, t.LastStatus())
		}
		c.status[id] = t.LastStatus()
	}
	for i := range s.Instances("") {
		has := i.Registered()
		if i.Used.CPU > has.CPU || i.Used.Memory > has.Memory {
			return fmt.Errorf("host %s has %d CPU units and %d MiB, and tasks have %d and %d of them", i.Record.GetId(), has.CPU, has.Memory, i.Used.CPU, i.Used.Memory)
		}
		ports := append(has.Ports, i.Used.Ports...)
		slices.SortFunc(ports, model.ComparePorts)
		if len(slices.Compact(slices.Clone(ports))) != len(ports) {
			return fmt.Errorf("host %s has a port twice: %v", i.Record.GetId(), ports)
		}
	}
	return nil
}

// plan checks a plan of the reconciler against the snapshot it is made on: a stop
// of a task that has been running leaves the minimum running, and starts stay
// below the maximum.
func (c *checks) plan(s *model.Snapshot, p model.Plan, now time.Time) error {
	starts, stops := map[string]int{}, map[string]map[string]bool{}
	for _, b := range p.Batches {
		for _, w := range b {
			r, ok := w.Value.(*pb.TaskRecord)
			switch {
			case !ok:
			case w.If == 0:
				starts[r.GetService()]++
			default:
				if stops[r.GetService()] == nil {
					stops[r.GetService()] = map[string]bool{}
				}
				stops[r.GetService()][r.GetId()] = true
			}
		}
	}
	for svc := range s.Services("") {
		d := svc.Record.GetService()
		name := d.GetServiceName()
		if d.GetStatus() != "ACTIVE" || d.GetSchedulingStrategy() == pb.SchedulingStrategy_SCHEDULING_STRATEGY_DAEMON {
			continue
		}
		up, left, proven := 0, 0, 0
		for t := range s.TasksOfService(clusterName, name) {
			running := t.LastStatus() == taskstate.Running && t.DesiredStatus() == taskstate.Running
			switch {
			case running && !stops[name][t.Record.GetId()]:
				left++
			case running && now.Sub(t.Status.GetStartedAt().AsTime()) >= provingTime:
				proven++
			}
			if t.LastStatus() <= taskstate.Running {
				up++
			}
		}
		config := d.GetDeploymentConfiguration()
		minimum := (int(d.GetDesiredCount())*int(config.GetMinimumHealthyPercent()) + 99) / 100
		maximum := int(d.GetDesiredCount()) * int(config.GetMaximumPercent()) / 100
		if proven > 0 && left < minimum {
			return fmt.Errorf("service %s: %d running tasks are stopped and %d left, %d at least", name, proven, left, minimum)
		}
		if n := starts[name]; n > 0 && up+n > maximum {
			return fmt.Errorf("service %s: %d tasks are started beside %d, %d at most", name, n, up, maximum)
		}
	}
	return nil
}

// converged says what is not yet as users want it, nil if all is.
func (s *Sim) converged() error {
	snap := s.store.Truth()
	for svc := range snap.Services("") {
		d := svc.Record.GetService()
		name := d.GetServiceName()
		if d.GetStatus() != "ACTIVE" {
			if !svc.Status.GetInactive() {
				return fmt.Errorf("deleted service %s is not INACTIVE", name)
			}
			continue
		}
		want, got := int(d.GetDesiredCount()), 0
		if d.GetSchedulingStrategy() == pb.SchedulingStrategy_SCHEDULING_STRATEGY_DAEMON {
			want = len(s.hosts)
		}
		for t := range snap.TasksOfService(clusterName, name) {
			switch {
			case t.Stopped():
			case t.LastStatus() != taskstate.Running || t.Record.GetTask().GetTaskDefinitionArn() != d.GetTaskDefinition():
				return fmt.Errorf("service %s has task %s %s of %s, not %d of %s (%s); its deployments: %v", name, t.Record.GetId(), t.LastStatus(), t.Record.GetTask().GetTaskDefinitionArn(), want, d.GetTaskDefinition(), t.Record.GetPlacementFailure(), svc.Status.GetDeployments())
			default:
				got++
			}
		}
		ds := svc.Status.GetDeployments()
		if got != want || len(ds) != 1 || !ds[0].GetSteady() ||
			ds[0].GetDeployment().GetRolloutState() != pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_COMPLETED {
			return fmt.Errorf("service %s has %d tasks of %d; its deployments: %v", name, got, want, ds)
		}
	}
	return nil
}
