package reconcile

import (
	"slices"
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
	taken := map[string]bool{}
	for svc := range s.Services("") {
		if svc.Status.GetInactive() && svc.Record.GetService().GetStatus() != "ACTIVE" {
			continue
		}
		w := newWork(s, svc, now, cfg)
		w.taken = taken
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
	// status is a copy of the stored one, changed as the plan goes on. It shares
	// events, which never change.
	status *pb.ServiceStatusRecord
	told   bool // an event was added
	wakeAt time.Time
	// taken are the hosts that a daemon is started on in this plan, by
	// cluster/id. A second one waits for the next, which sees what is left.
	taken map[string]bool

	alive   []*model.Task
	stopped []*model.Task

	creates model.Batch
	stops   model.Batch
	started []string
	ended   []string
}

func newWork(s *model.Snapshot, svc *model.Service, now time.Time, cfg Config) *work {
	w := &work{s: s, svc: svc, desire: svc.Record.GetService(), now: now, cfg: cfg}
	old := svc.Status
	if old.GetInactive() {
		// It is of a service before this one that had its name.
		old = nil
	}
	w.status = &pb.ServiceStatusRecord{
		Cluster: w.cluster(), Service: w.desire.GetServiceName(), Events: old.GetEvents(), Inactive: old.GetInactive(),
		ReportedPlacementFailure: old.GetReportedPlacementFailure(), ReportedPlacementFailureAt: old.GetReportedPlacementFailureAt(),
	}
	for _, d := range old.GetDeployments() {
		w.status.Deployments = append(w.status.Deployments, proto.CloneOf(d))
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
		if t.DesiredStatus() == taskstate.Running {
			w.stop(t, "Service deleted")
		}
	}
	if len(w.alive) == 0 {
		w.status.Inactive = true
		w.status.Deployments = nil
		w.tell("has been deleted.")
	}
}

// finish turns the work into batches.
func (w *work) finish(plan *model.Plan) {
	w.tellStartsAndStops()
	var first model.Batch
	if w.changed() {
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

// changed says whether the status is another than the stored one.
func (w *work) changed() bool {
	old := w.svc.Status
	return old == nil || w.told || old.GetInactive() != w.status.GetInactive() ||
		old.GetReportedPlacementFailure() != w.status.GetReportedPlacementFailure() ||
		!slices.EqualFunc(old.GetDeployments(), w.status.GetDeployments(), func(a, b *pb.DeploymentState) bool { return proto.Equal(a, b) })
}

func (w *work) wake(t time.Time) {
	if w.wakeAt.IsZero() || t.Before(w.wakeAt) {
		w.wakeAt = t
	}
}

// primary is the newest deployment.
func (w *work) primary() *pb.DeploymentState { return w.status.GetDeployments()[0] }

// scaling is the reason of a task that the service stops.
func (w *work) scaling() string {
	return "Scaling activity initiated by (deployment " + w.primary().GetDeployment().GetId() + ")"
}

func lastPart(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return s[i+1:]
		}
	}
	return s
}
