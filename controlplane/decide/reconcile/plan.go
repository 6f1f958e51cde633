package reconcile

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// Config is what operators may set.
type Config struct {
	// ProvingTime is how long a task of a deployment that is not proven must run
	// before it counts as healthy without a health check.
	ProvingTime time.Duration
	// Check says why a task cannot run on an instance, empty if it can. Daemon
	// services ask it.
	Check func(s *model.Snapshot, t *model.Task, instance string) string
}

// batchSize bounds the tasks that one transaction creates or stops.
const batchSize = 90

// Plan brings every service one step on.
func Plan(s *model.Snapshot, now time.Time, cfg Config) model.Plan {
	var plan model.Plan
	for svc := range s.Services("") {
		if svc.Status.GetInactive() {
			continue
		}
		w := newWork(s, svc, now, cfg)
		w.decide()
		w.finish(&plan)
	}
	return plan
}

// work is the planning of one service.
type work struct {
	s      *model.Snapshot
	svc    *model.Service
	desire *pb.Service
	now    time.Time
	cfg    Config
	// status is a copy of the stored one, changed as the plan goes on.
	status *pb.ServiceStatusRecord
	wakeAt time.Time

	alive   []*model.Task
	stopped []*model.Task

	creates model.Batch
	stops   model.Batch
	started []string
	ended   []string
}

func newWork(s *model.Snapshot, svc *model.Service, now time.Time, cfg Config) *work {
	w := &work{s: s, svc: svc, desire: svc.Record.GetService(), now: now, cfg: cfg}
	if svc.Status != nil {
		w.status = proto.CloneOf(svc.Status)
	} else {
		w.status = &pb.ServiceStatusRecord{Cluster: w.cluster(), Service: w.desire.GetServiceName()}
	}
	for t := range s.TasksOfService(w.cluster(), w.desire.GetServiceName()) {
		if t.Stopped() {
			w.stopped = append(w.stopped, t)
		} else {
			w.alive = append(w.alive, t)
		}
	}
	return w
}

func (w *work) cluster() string { return lastPart(w.desire.GetClusterArn()) }

func (w *work) decide() {
	if w.desire.GetStatus() != "ACTIVE" {
		w.drainService()
		return
	}
	w.adoptDeployment()
	w.countFailures()
	if w.desire.GetSchedulingStrategy() == pb.SchedulingStrategy_SCHEDULING_STRATEGY_DAEMON {
		w.daemon()
	} else {
		w.replica()
	}
	w.dropDeployments()
	w.tellPlacement()
}

// drainService stops a deleted service's tasks; it is INACTIVE without any.
func (w *work) drainService() {
	for _, t := range w.alive {
		if wanted(t) {
			w.stop(t, "Service deleted")
		}
	}
	if len(w.alive) == 0 {
		w.status.Inactive = true
		w.status.Deployments = nil
	}
}

// finish turns the work into batches.
func (w *work) finish(plan *model.Plan) {
	w.tellStartsAndStops()
	var first model.Batch
	if w.svc.Status == nil || !proto.Equal(w.svc.Status, w.status) {
		first = append(first, model.Write{
			Key:   model.Key{Kind: model.KindServiceStatus, Cluster: w.cluster(), ID: w.desire.GetServiceName()},
			Value: w.status, If: w.svc.StatusRevision,
		})
	}
	if first = append(first, w.creates...); len(first) > 0 {
		plan.Batches = append(plan.Batches, first)
	}
	for len(w.stops) > 0 {
		n := min(len(w.stops), batchSize)
		plan.Batches = append(plan.Batches, w.stops[:n])
		w.stops = w.stops[n:]
	}
	plan.Wake(w.wakeAt)
}

func (w *work) wake(t time.Time) {
	if w.wakeAt.IsZero() || t.Before(w.wakeAt) {
		w.wakeAt = t
	}
}

// primary is the newest deployment.
func (w *work) primary() *pb.DeploymentState { return w.status.GetDeployments()[0] }

// wanted says whether the task is to run.
func wanted(t *model.Task) bool { return t.DesiredStatus() == taskstate.Running }

func lastPart(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return s[i+1:]
		}
	}
	return s
}
