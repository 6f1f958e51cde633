package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// How failures delay starts.
const (
	// stable is how long a task must have run for its end to be no failed start.
	stable = 10 * time.Second
	// freeFailures in a row delay nothing.
	freeFailures = 3
	maxThrottle  = 15 * time.Minute
	// countingWindow is how much later than others' a failure may be reported.
	countingWindow = time.Minute
)

// unhealthyReason is why tasks stop that fail their health check.
const unhealthyReason = "Task failed container health checks"

// adoptDeployment makes a deployment of what the API last asked for.
func (w *work) adoptDeployment() {
	if len(w.status.GetDeployments()) > 0 && w.primary().GetRequestedBy() == w.svc.Record.GetDeploymentId() {
		w.primary().Deployment.DesiredCount = w.desire.GetDesiredCount()
		return
	}
	w.begin(w.svc.Record.GetDeploymentId(), w.desire.GetTaskDefinition(), "")
	if at := w.svc.Record.GetDeploymentCreatedAt(); at != nil {
		w.primary().Deployment.CreatedAt = at
	}
}

// begin puts a new primary deployment before the others.
func (w *work) begin(id, definition, reason string) {
	now := timestamppb.New(w.now)
	d := &pb.DeploymentState{
		RequestedBy: w.svc.Record.GetDeploymentId(),
		Deployment: &pb.Deployment{
			Id: id, Status: "PRIMARY", TaskDefinition: definition, DesiredCount: w.desire.GetDesiredCount(),
			CreatedAt: now, UpdatedAt: now, LaunchType: w.desire.GetLaunchType(), NetworkConfiguration: w.desire.GetNetworkConfiguration(),
			RolloutState:       pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_IN_PROGRESS,
			RolloutStateReason: "ECS deployment " + id + " in progress." + reason,
		},
	}
	for i, old := range w.status.GetDeployments() {
		old.Deployment.Status = "ACTIVE"
		if i == 0 {
			d.RollbackTaskDefinition = old.GetRollbackTaskDefinition()
			if old.GetCompleted() {
				d.RollbackTaskDefinition = old.GetDeployment().GetTaskDefinition()
			}
		}
	}
	w.status.Deployments = append([]*pb.DeploymentState{d}, w.status.Deployments...)
}

// countFailures counts the tasks that stopped by themselves since the last time,
// and lets the circuit breaker judge.
func (w *work) countFailures() {
	for _, d := range w.status.GetDeployments() {
		if fresh := w.fresh(d); len(fresh) > 0 {
			w.fail(d, fresh)
		} else if d.GetConsecutiveFailures() > 0 && w.stableSince(d) {
			d.ConsecutiveFailures, d.ThrottledUntil = 0, nil
		}
	}
	w.breaker()
}

// fresh are the deployment's failures that were not counted. Hosts' clocks
// differ and reports are late, so that what stopped shortly before the last
// counted one is told by its id.
func (w *work) fresh(d *pb.DeploymentState) (fresh []*model.Task) {
	id, since := d.GetDeployment().GetId(), time.Time{}
	if d.GetFailuresCountedUntil() != nil {
		since = d.GetFailuresCountedUntil().AsTime().Add(-countingWindow)
	}
	for _, t := range w.stopped {
		if t.Record.GetDeploymentId() == id && failed(t) && w.stoppedAt(t).After(since) && !slices.Contains(d.GetFailuresCounted(), t.Record.GetId()) {
			fresh = append(fresh, t)
		}
	}
	return fresh
}

// stoppedAt is when the task stopped, by a clock that is not ahead of this one.
func (w *work) stoppedAt(t *model.Task) time.Time {
	if at := t.StoppedAt(); at.Before(w.now) {
		return at
	}
	return w.now
}

// failed says whether a stopped task ended by itself: nobody wanted it to, and
// its host was not lost; or its health check failed.
func failed(t *model.Task) bool {
	return t.DesiredStatus() == taskstate.Running && t.Record.GetStoppedAt() == nil || t.Record.GetStoppedReason() == unhealthyReason
}

// count remembers that the failures were counted.
func (w *work) count(d *pb.DeploymentState, fresh []*model.Task) {
	until := d.GetFailuresCountedUntil().AsTime()
	for _, t := range fresh {
		until = later(until, w.stoppedAt(t))
	}
	counted := map[string]bool{}
	for _, id := range d.GetFailuresCounted() {
		counted[id] = true
	}
	d.FailuresCounted = nil
	for _, t := range w.stopped {
		id := t.Record.GetId()
		if w.stoppedAt(t).After(until.Add(-countingWindow)) && (counted[id] || slices.Contains(fresh, t)) {
			d.FailuresCounted = append(d.FailuresCounted, id)
		}
	}
	d.FailuresCountedUntil = timestamppb.New(until)
}

func (w *work) fail(d *pb.DeploymentState, fresh []*model.Task) {
	w.count(d, fresh)
	before := d.GetConsecutiveFailures()
	var last *model.Task
	for _, t := range fresh {
		if d.GetDeployment().GetRolloutState() == pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_IN_PROGRESS {
			d.Deployment.FailedTasks++
		}
		if ran(t) >= stable {
			d.ConsecutiveFailures, d.ThrottledUntil, before = 0, nil, 0
		} else if !t.Record.GetTask().GetCreatedAt().AsTime().Before(d.GetConsecutiveFailureAt().AsTime()) {
			d.ConsecutiveFailures++
			d.ConsecutiveFailureAt = timestamppb.New(w.now)
			last = t
		}
	}
	d.FailedAt, d.Steady = timestamppb.New(w.now), false
	if n := d.GetConsecutiveFailures() - freeFailures; n > 0 && d.GetConsecutiveFailures() > before {
		delay := maxThrottle
		if n <= 10 {
			delay = min(delay, time.Second<<(n-1))
		}
		d.ThrottledUntil = timestamppb.New(w.now.Add(delay))
		w.tell(fmt.Sprintf("is unable to consistently start tasks successfully: %s. The next start is in %s.", why(last), delay))
	}
}

// why is how a task ended, in words.
func why(t *model.Task) string {
	v := t.View()
	text := fmt.Sprintf("(task %s) stopped: %s", t.Record.GetId(), strings.TrimSuffix(v.GetStoppedReason(), "."))
	for _, c := range v.GetContainers() {
		switch {
		case c.GetReason() != "" && !strings.Contains(text, c.GetReason()):
			text += fmt.Sprintf(" (container %s: %s)", c.GetName(), c.GetReason())
		case c.GetExitCode() != 0:
			text += fmt.Sprintf(" (container %s exited with %d)", c.GetName(), c.GetExitCode())
		}
	}
	return text
}

// ran is how long a stopped task was RUNNING.
func ran(t *model.Task) time.Duration {
	if t.Status.GetStartedAt() == nil {
		return 0
	}
	return t.StoppedAt().Sub(t.Status.GetStartedAt().AsTime())
}

// stableSince says whether a task of the deployment that started after its last
// failure has been stable.
func (w *work) stableSince(d *pb.DeploymentState) bool {
	for _, t := range w.alive {
		from, ok := w.running(t)
		if !ok || t.Record.GetDeploymentId() != d.GetDeployment().GetId() || from.Before(d.GetFailedAt().AsTime()) {
			continue
		}
		if from = from.Add(stable); !w.now.Before(from) {
			return true
		}
		w.wake(from)
	}
	return false
}

// breaker fails a rollout that has too many failures, and rolls it back where
// that is asked for.
func (w *work) breaker() {
	d := w.primary()
	b := w.desire.GetDeploymentConfiguration().GetDeploymentCircuitBreaker()
	threshold := min(200, max(3, (w.desire.GetDesiredCount()+1)/2))
	if !b.GetEnable() || d.GetDeployment().GetRolloutState() != pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_IN_PROGRESS ||
		d.GetDeployment().GetFailedTasks() < threshold {
		return
	}
	id := d.GetDeployment().GetId()
	d.Deployment.RolloutState = pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_FAILED
	d.Deployment.RolloutStateReason = "ECS deployment circuit breaker: tasks failed to start."
	d.Deployment.UpdatedAt = timestamppb.New(w.now)
	w.tell(fmt.Sprintf("(deployment %s) deployment failed: tasks failed to start.", id))
	if to := d.GetRollbackTaskDefinition(); b.GetRollback() && to != "" {
		next := "ecs-svc/" + digits(w.svc.Record.GetDeploymentId()+" rollback")
		if id != next {
			w.tell(fmt.Sprintf("rolling back to deployment %s.", next))
			w.begin(next, to, " Rollback of "+id+".")
		}
	}
}

// halted says whether nothing may be started now.
func (w *work) halted() bool {
	d := w.primary()
	if d.GetDeployment().GetRolloutState() == pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_FAILED {
		return true
	}
	if until := d.GetThrottledUntil(); until != nil && w.now.Before(until.AsTime()) {
		w.wake(until.AsTime())
		return true
	}
	return false
}

// settle records whether the service is as it is to be.
func (w *work) settle(settled bool) {
	d := w.primary()
	if !settled {
		d.Steady = false
		return
	}
	if d.GetDeployment().GetRolloutState() == pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_IN_PROGRESS && w.gone() {
		d.Deployment.RolloutState = pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_COMPLETED
		d.Deployment.RolloutStateReason = "ECS deployment " + d.GetDeployment().GetId() + " completed."
		d.Deployment.UpdatedAt = timestamppb.New(w.now)
		d.Completed = true
		w.tell(fmt.Sprintf("(deployment %s) deployment completed.", d.GetDeployment().GetId()))
	}
	if !d.GetSteady() && w.gone() {
		d.Steady = true
		w.tell("has reached a steady state.")
	}
}

// gone says whether no task of an older deployment is alive.
func (w *work) gone() bool {
	return !slices.ContainsFunc(w.alive, func(t *model.Task) bool {
		return t.Record.GetDeploymentId() != w.primary().GetDeployment().GetId()
	})
}

// dropDeployments forgets older deployments without a task.
func (w *work) dropDeployments() {
	w.status.Deployments = slices.DeleteFunc(w.status.Deployments, func(d *pb.DeploymentState) bool {
		return d != w.primary() && !slices.ContainsFunc(w.alive, func(t *model.Task) bool {
			return t.Record.GetDeploymentId() == d.GetDeployment().GetId()
		})
	})
}
