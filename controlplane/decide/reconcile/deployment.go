package reconcile

import (
	"fmt"
	"slices"
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
)

// adoptDeployment makes a deployment of what the API last asked for.
func (w *work) adoptDeployment() {
	if len(w.status.GetDeployments()) > 0 && w.primary().GetRequestedBy() == w.svc.Record.GetDeploymentId() {
		w.primary().Deployment.DesiredCount = w.desire.GetDesiredCount()
		return
	}
	w.begin(w.svc.Record.GetDeploymentId(), w.desire.GetTaskDefinition(), "")
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
		until := time.Time{}
		if d.GetFailuresCountedUntil() != nil {
			until = d.GetFailuresCountedUntil().AsTime()
		}
		var fresh []*model.Task
		for _, t := range w.stopped {
			at := t.StoppedAt()
			if t.Record.GetDeploymentId() == d.GetDeployment().GetId() && failed(t) &&
				(at.After(until) || at.Equal(until) && !slices.Contains(d.GetFailuresCounted(), t.Record.GetId())) {
				fresh = append(fresh, t)
			}
		}
		if len(fresh) > 0 {
			w.fail(d, fresh)
		} else if d.GetConsecutiveFailures() > 0 && w.ranSince(d, d.GetFailedAt().AsTime()) {
			d.ConsecutiveFailures, d.ThrottledUntil = 0, nil
		}
	}
	w.breaker()
}

// failed says whether a stopped task ended by itself: nobody wanted it to, and
// its host was not lost.
func failed(t *model.Task) bool { return wanted(t) && t.Record.GetStoppedAt() == nil }

func (w *work) fail(d *pb.DeploymentState, fresh []*model.Task) {
	for _, t := range fresh {
		at := timestamppb.New(t.StoppedAt())
		switch c := at.AsTime().Compare(d.GetFailuresCountedUntil().AsTime()); {
		case d.GetFailuresCountedUntil() == nil || c > 0:
			d.FailuresCountedUntil, d.FailuresCounted = at, []string{t.Record.GetId()}
		case c == 0:
			d.FailuresCounted = append(d.FailuresCounted, t.Record.GetId())
		}
		if d.GetDeployment().GetRolloutState() == pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_IN_PROGRESS {
			d.Deployment.FailedTasks++
		}
		if ran(t) >= stable {
			d.ConsecutiveFailures = 0
		} else {
			d.ConsecutiveFailures++
		}
	}
	d.FailedAt, d.Steady = timestamppb.New(w.now), false
	if n := d.GetConsecutiveFailures() - freeFailures; n > 0 {
		delay := maxThrottle
		if n <= 10 {
			delay = min(delay, time.Second<<(n-1))
		}
		d.ThrottledUntil = timestamppb.New(w.now.Add(delay))
		w.tell("is unable to consistently start tasks successfully. For more information, see the tasks' stopped reasons.")
	}
}

// ran is how long a stopped task was RUNNING.
func ran(t *model.Task) time.Duration {
	if t.Status.GetStartedAt() == nil {
		return 0
	}
	return t.StoppedAt().Sub(t.Status.GetStartedAt().AsTime())
}

// ranSince says whether a task of the deployment has been stable since then.
func (w *work) ranSince(d *pb.DeploymentState, since time.Time) bool {
	for _, t := range w.alive {
		if from, ok := running(t); ok && t.Record.GetDeploymentId() == d.GetDeployment().GetId() {
			from = later(from, since).Add(stable)
			if !w.now.Before(from) {
				return true
			}
			w.wake(from)
		}
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

// healthy says whether the task counts as healthy.
func (w *work) healthy(t *model.Task) bool {
	from, ok := running(t)
	switch {
	case !ok || t.Status.GetHealthStatus() == pb.HealthStatus_HEALTH_STATUS_UNHEALTHY:
		return false
	case t.Status.GetHealthStatus() == pb.HealthStatus_HEALTH_STATUS_HEALTHY:
		return true
	case w.hasCheck(t):
		return false
	}
	if at := from.Add(w.cfg.ProvingTime); w.now.Before(at) {
		w.wake(at)
		return w.proven(t.Record.GetDeploymentId())
	}
	return true
}

// proven says whether one of the deployment's tasks has run for the proving time
// with no failure since.
func (w *work) proven(id string) bool {
	since := time.Time{}
	for _, d := range w.status.GetDeployments() {
		if d.GetDeployment().GetId() == id && d.GetFailedAt() != nil {
			since = d.GetFailedAt().AsTime()
		}
	}
	for _, t := range w.alive {
		if from, ok := running(t); ok && t.Record.GetDeploymentId() == id && !w.now.Before(later(from, since).Add(w.cfg.ProvingTime)) {
			return true
		}
	}
	return false
}

func (w *work) hasCheck(t *model.Task) bool {
	for _, c := range w.s.DefinitionOf(t.Record.GetTask().GetTaskDefinitionArn()).GetTaskDefinition().GetContainerDefinitions() {
		if c.GetHealthCheck() != nil && (c.Essential == nil || c.GetEssential()) {
			return true
		}
	}
	return false
}

// running says since when the task is RUNNING.
func running(t *model.Task) (time.Time, bool) {
	return t.Status.GetStartedAt().AsTime(), t.LastStatus() == taskstate.Running && t.Status.GetStartedAt() != nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
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
