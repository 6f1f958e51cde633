package reconcile

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

var ids = regexp.MustCompile(`( ?\(task [0-9a-f]{32}\))+| ecs-svc/\d+`)

func want[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s, wanted (-), got (+):\n%s", what, d)
	}
}

func percents(minimum, maximum int32) func(*pb.Service) {
	return func(s *pb.Service) {
		if s.DeploymentConfiguration == nil {
			s.DeploymentConfiguration = &pb.DeploymentConfiguration{}
		}
		s.DeploymentConfiguration.MinimumHealthyPercent, s.DeploymentConfiguration.MaximumPercent = &minimum, &maximum
	}
}

func breaker(s *pb.Service) {
	s.DeploymentConfiguration = &pb.DeploymentConfiguration{DeploymentCircuitBreaker: &pb.DeploymentCircuitBreaker{Enable: true, Rollback: true}}
}

func desired(n int32) func(*pb.Service) { return func(s *pb.Service) { s.DesiredCount = n } }

func daemon(s *pb.Service) {
	s.SchedulingStrategy, s.DesiredCount = pb.SchedulingStrategy_SCHEDULING_STRATEGY_DAEMON, 0
}

func TestNewServiceStartsEverythingAtOnceAndBecomesSteady(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, func(s *pb.Service) {
		s.PropagateTags, s.Tags = pb.PropagateTags_PROPAGATE_TAGS_SERVICE, []*pb.Tag{{Key: "team"}}
		s.EnableEcsManagedTags = true
	})
	w.step()
	tasks := w.tasks("web")
	want(t, "tasks", 3, len(tasks))
	rec := tasks[0].Record
	want(t, "the task's arn", "arn:aws:ecs:r:1:task/c/"+rec.GetId(), rec.GetTask().GetTaskArn())
	want(t, "its group", "service:web", rec.GetTask().GetGroup())
	want(t, "who started it", "ecs-svc/11", rec.GetTask().GetStartedBy())
	want(t, "its memory", int64(16), rec.GetResources().GetMemory())
	tags := map[string]string{}
	for _, tag := range rec.GetTask().GetTags() {
		tags[tag.GetKey()] = tag.GetValue()
	}
	want(t, "its tags", map[string]string{"team": "", "aws:ecs:clusterName": "c", "aws:ecs:serviceName": "web"}, tags)
	want(t, "its memory as it is described", "16", rec.GetTask().GetMemory())
	w.settle(nil)
	want(t, "events", []string{
		"(service web) has started 3 tasks:.", "(service web) (deployment) deployment completed.", "(service web) has reached a steady state.",
	}, w.events("web"))
	d := w.status("web").GetDeployments()[0].GetDeployment()
	want(t, "reason", "ECS deployment ecs-svc/11 completed.", d.GetRolloutStateReason())
	want(t, "state", pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_COMPLETED, d.GetRolloutState())
	want(t, "batches of a settled service", 0, len(w.last.Batches))
}

func TestPlanAppliedTwiceCreatesNothingTwice(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, nil)
	stale := w.s
	w.step()
	for _, b := range Plan(stale, w.now.Add(time.Second), w.cfg).Batches {
		if w.write(b) {
			t.Fatalf("a plan on a stale snapshot was taken: %v", b)
		}
	}
	want(t, "tasks", 3, len(w.tasks("web")))
}

func TestRollingUpdateReplacesEveryTaskWithinThePercents(t *testing.T) {
	for name, c := range map[string]struct{ desired, minimum, maximum int32 }{
		"defaults": {3, 100, 200}, "in place": {4, 50, 100}, "one": {1, 0, 100}, "one more": {5, 100, 120}, "many": {25, 100, 150},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.service("web", 1, 1, func(s *pb.Service) { percents(c.minimum, c.maximum)(s); s.DesiredCount = c.desired })
			w.settle(nil)
			w.service("web", 2, 1, nil)
			least, most := bounds(&pb.DeploymentConfiguration{MinimumHealthyPercent: &c.minimum, MaximumPercent: &c.maximum}, int(c.desired), 0, 0)
			w.settle(func() {
				n := w.counts("web")
				if n["1"]+n["2"] < least {
					t.Fatalf("%v run, %d at least", n, least)
				}
				if alive := len(w.tasks("web")); alive > most {
					t.Fatalf("%d tasks, %d at most", alive, most)
				}
			})
			want(t, "tasks", map[string]int{"2": int(c.desired)}, w.counts("web"))
			want(t, "deployments", 1, len(w.status("web").GetDeployments()))
		})
	}
}

func TestDefaultUpdateStartsAllNewTasksInOneStep(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, nil)
	w.settle(nil)
	w.service("web", 2, 1, nil)
	w.step()
	want(t, "tasks", 6, len(w.tasks("web")))
}

func TestUpdateThatThePercentsForbidSaysSo(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, func(s *pb.Service) { percents(100, 100)(s) })
	w.settle(nil)
	w.service("web", 2, 1, nil)
	w.settle(nil)
	events := w.events("web")
	if last := events[len(events)-1]; !strings.HasPrefix(last, "(service web) was unable to stop or start tasks during a deployment because of") {
		t.Fatalf("events %v", events)
	}
}

func TestKilledTaskIsReplacedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, nil)
	w.settle(nil)
	w.now = w.now.Add(time.Hour)
	for range 5 {
		w.report(w.tasks("web")[0], taskstate.Stopped)
		w.step()
		want(t, "tasks", 3, len(w.tasks("web")))
		w.settle(nil)
		w.now = w.now.Add(time.Minute)
	}
}

func TestTaskThatEndsByItselfIsReplacedBeforeItHasStopped(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, nil)
	w.settle(nil)
	w.report(w.tasks("web")[0], taskstate.Stopping)
	w.step()
	want(t, "tasks", 4, len(w.tasks("web")))
}

func TestFailingStartsAreDelayedMoreAndMore(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, desired(1))
	w.fails = func(*model.Task) bool { return true }
	var starts []time.Time
	for range 300 {
		for w.step() {
			if len(w.tasks("web")) == 1 && w.tasks("web")[0].Status == nil && w.tasks("web")[0].Record.GetInstance() == "" {
				starts = append(starts, w.now)
			}
		}
		for _, task := range w.tasks("web") {
			w.run(task)
		}
		w.now = w.now.Add(time.Millisecond)
		if len(w.tasks("web")) == 0 && w.last.WakeAt.After(w.now) {
			w.now = w.last.WakeAt
		}
	}
	longest := time.Duration(0)
	for i := 1; i < len(starts); i++ {
		if gap := starts[i].Sub(starts[i-1]); gap < longest-10*time.Millisecond {
			t.Fatalf("start %d after %v, one before after %v", i, gap, longest)
		} else if longest = gap; gap > maxThrottle+time.Second {
			t.Fatalf("delayed for %v", gap)
		}
	}
	if longest < maxThrottle {
		t.Fatalf("the longest delay of %d starts is %v", len(starts), longest)
	}
	if !slices.ContainsFunc(w.events("web"), func(e string) bool {
		return strings.HasPrefix(e, "(service web) is unable to consistently start tasks successfully:") &&
			strings.HasSuffix(e, " stopped: Essential container in task exited (container app exited with 3). The next start is in 15m0s.")
	}) {
		t.Fatalf("events %v", w.events("web")[:5])
	}
	// A new deployment starts afresh.
	w.fails = nil
	w.service("web", 2, 1, nil)
	w.step()
	want(t, "tasks", 1, len(w.tasks("web")))
}

// TestTasksThatFailTogetherAreOneFailure: what is delayed is the service's next
// try, however many tasks it has.
func TestTasksThatFailTogetherAreOneFailure(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, desired(50))
	w.fails = func(*model.Task) bool { return true }
	launched := 0
	for wave := 1; wave <= freeFailures+1; wave++ {
		if launched += 50; len(w.tasks("web")) == 0 {
			w.step()
		}
		tasks := w.tasks("web")
		want(t, "tasks of the wave", 50, len(tasks))
		for _, task := range tasks {
			w.run(task) // onto a host
		}
		for _, task := range w.tasks("web") {
			w.run(task) // fails
			if w.now = w.now.Add(time.Millisecond); wave > freeFailures {
				w.step() // each is seen by itself
			}
		}
	}
	d := w.status("web").GetDeployments()[0]
	want(t, "failures in a row", freeFailures+1, int(d.GetConsecutiveFailures()))
	told := 0
	for _, e := range w.events("web") {
		if strings.Contains(e, "unable to consistently start") {
			told++
		}
	}
	want(t, "events", 1, told)
}

func TestCircuitBreakerRollsBackToWhatCompletedLast(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, breaker)
	w.settle(nil)
	w.fails = func(task *model.Task) bool {
		return strings.HasSuffix(task.Record.GetTask().GetTaskDefinitionArn(), ":2")
	}
	w.service("web", 2, 1, nil)
	w.settle(func() {
		if n := w.counts("web")["1"]; n < 3 {
			t.Fatalf("%d tasks of the old deployment run", n)
		}
	})
	want(t, "tasks", map[string]int{"1": 3}, w.counts("web"))
	d := w.status("web").GetDeployments()
	want(t, "deployments", 1, len(d))
	want(t, "state", pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_COMPLETED, d[0].GetDeployment().GetRolloutState())
	events := strings.Join(w.events("web"), "\n")
	for _, e := range []string{"deployment failed: tasks failed to start.", "rolling back to deployment"} {
		if !strings.Contains(events, e) {
			t.Errorf("no event %q in\n%s", e, events)
		}
	}
}

func TestCircuitBreakerWithoutAnythingToReturnToStops(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, breaker)
	w.fails = func(*model.Task) bool { return true }
	w.settle(nil)
	d := w.status("web").GetDeployments()[0].GetDeployment()
	want(t, "state", pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_FAILED, d.GetRolloutState())
	want(t, "failed tasks", int32(3), d.GetFailedTasks())
}

func TestFailureReportedLateIsCounted(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, breaker)
	w.step()
	tasks := w.tasks("web")
	for i, back := range []time.Duration{0, 20 * time.Second, -20 * time.Second} {
		w.put(model.KindTaskStatus, "c", tasks[i].Record.GetId(), &pb.TaskStatusRecord{LastStatus: "STOPPED", StoppedAt: timestamppb.New(w.now.Add(-back))})
		w.step()
		w.now = w.now.Add(time.Millisecond)
		w.step()
	}
	want(t, "failed tasks", int32(3), w.status("web").GetDeployments()[0].GetDeployment().GetFailedTasks())
}

func TestScaling(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, nil)
	w.settle(nil)
	w.service("web", 1, 1, desired(100))
	w.settle(nil)
	want(t, "tasks", 100, len(w.tasks("web")))
	// Of what is there, those that do not run yet go first.
	w.now = w.now.Add(time.Minute)
	w.service("web", 1, 1, desired(101))
	w.step()
	newest := slices.IndexFunc(w.tasks("web"), func(t *model.Task) bool { return t.Record.GetInstance() == "" })
	id := w.tasks("web")[newest].Record.GetId()
	w.service("web", 1, 1, desired(100))
	w.step()
	gone, _ := w.s.Task("c", id)
	want(t, "the newest stopped", true, gone.Stopped())
	want(t, "its code", pb.TaskStopCode_TASK_STOP_CODE_SERVICE_SCHEDULER_INITIATED, gone.Record.GetStopCode())
	want(t, "its reason", "Scaling activity initiated by (deployment ecs-svc/11)", gone.Record.GetStoppedReason())
	w.service("web", 1, 1, desired(0))
	w.settle(nil)
	want(t, "tasks", 0, len(w.tasks("web")))
}

func TestDrainingStartsReplacementsFirst(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, nil)
	w.settle(nil)
	w.state("h1", model.InstanceDraining)
	w.hosts = 1 // new tasks go to h0
	w.settle(func() {
		if n := w.counts("web")["1"]; n < 3 {
			t.Fatalf("%d tasks run", n)
		}
	})
	for _, task := range w.tasks("web") {
		if task.Record.GetInstance() == "h1" {
			t.Fatal("a task is left on the draining host")
		}
	}
}

func TestDaemons(t *testing.T) {
	w := newWorld(t)
	w.service("one", 1, 1, daemon)
	w.service("two", 1, 1, daemon)
	w.step()
	on := map[string]int{}
	for task := range w.s.Tasks("c") {
		on[task.Record.GetInstance()]++
	}
	want(t, "daemons started in one plan", map[string]int{"h0": 1, "h1": 1, "h2": 1}, on)
	w.settle(nil)
	want(t, "tasks of two", 3, len(w.tasks("two")))
	w.host("h3")
	w.settle(nil)
	want(t, "tasks with a new host", 4, len(w.tasks("one")))

	// On a draining host they leave after the others.
	w.service("web", 1, 1, nil)
	w.settle(nil)
	w.state("h1", model.InstanceDraining)
	w.hosts = 1
	w.settle(func() {
		web, daemons := 0, 0
		for task := range w.s.TasksOfInstance("c", "h1") {
			if task.DesiredStatus() == taskstate.Running && !task.Stopped() {
				if task.Record.GetService() == "web" {
					web++
				} else {
					daemons++
				}
			}
		}
		if web > 0 && daemons < 2 {
			t.Fatalf("%d daemons are to run beside %d others", daemons, web)
		}
	})
	want(t, "tasks on three hosts", 3, len(w.tasks("one")))
	w.service("one", 2, 1, nil)
	w.settle(nil)
	want(t, "tasks after an update", map[string]int{"2": 3}, w.counts("one"))
	// A host that refuses has none, and is not waited for.
	w.cfg.Check = func(*model.Snapshot, *model.Task, string) string { return "ATTRIBUTE" }
	w.host("h4")
	w.settle(nil)
	want(t, "tasks with a host that refuses", 3, len(w.tasks("one")))
}

func TestDeletedServiceStopsItsTasksAndBecomesInactive(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, nil)
	w.settle(nil)
	w.service("web", 1, 1, func(s *pb.Service) { s.Status = "DRAINING" })
	w.step()
	want(t, "inactive before its tasks are gone", false, w.status("web").GetInactive())
	w.settle(nil)
	want(t, "inactive", true, w.status("web").GetInactive())
	want(t, "tasks", 0, len(w.tasks("web")))
	want(t, "the last event", "(service web) has been deleted.", w.status("web").GetEvents()[0].GetMessage())
	// One that takes its name starts with nothing of it.
	w.service("web", 2, 2, func(s *pb.Service) { s.Status = "ACTIVE" })
	w.settle(nil)
	want(t, "tasks", map[string]int{"2": 3}, w.counts("web"))
	want(t, "events", 3, len(w.events("web")))
}

func TestPlacementFailureIsToldOnce(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, nil)
	w.step()
	say := func(failure string) {
		for _, task := range w.tasks("web") {
			r := proto.CloneOf(task.Record)
			r.PlacementFailure = failure
			w.put(model.KindTask, "c", r.GetId(), r)
		}
		for w.step() {
		}
	}
	say("RESOURCE:MEMORY on 2; needs 16 MiB")
	say("RESOURCE:MEMORY on 3; needs 16 MiB")
	say("ATTRIBUTE on 3")
	want(t, "events", []string{
		"(service web) has started 3 tasks:.",
		"(service web) was unable to place a task because no container instance met all of its requirements. Reason: RESOURCE:MEMORY on 2; needs 16 MiB.",
		"(service web) was unable to place a task because no container instance met all of its requirements. Reason: ATTRIBUTE on 3.",
	}, w.events("web"))
	// Tasks that were never placed make way for a new deployment.
	w.service("web", 2, 1, nil)
	w.step()
	for _, task := range w.tasks("web") {
		want(t, "definition", "arn:aws:ecs:r:1:task-definition/web:2", task.Record.GetTask().GetTaskDefinitionArn())
	}
}

func TestUnhealthyTaskIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, nil)
	w.settle(nil)
	sick := w.tasks("web")[0]
	r := proto.CloneOf(sick.Status)
	r.HealthStatus = pb.HealthStatus_HEALTH_STATUS_UNHEALTHY
	w.put(model.KindTaskStatus, "c", r.GetTask(), r)
	w.settle(nil)
	gone, _ := w.s.Task("c", r.GetTask())
	want(t, "why it stopped", unhealthyReason, gone.Record.GetStoppedReason())
	want(t, "tasks", 3, len(w.tasks("web")))
}

func TestOnlyUnprovenDeploymentsWait(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, percents(100, 200))
	w.settle(nil)
	w.service("web", 2, 1, nil)
	w.step()
	for _, task := range w.tasks("web") {
		w.run(task)
	}
	for _, task := range w.tasks("web") {
		w.run(task)
	}
	want(t, "running", map[string]int{"1": 3, "2": 3}, w.counts("web"))
	want(t, "written before it is proven", false, w.step())
	want(t, "wakes", w.now.Add(time.Second), w.last.WakeAt)
	w.now = w.last.WakeAt
	w.step()
	want(t, "after the proving time", map[string]int{"2": 3}, w.counts("web"))
}

func TestHostWhoseClockIsAheadDelaysNothing(t *testing.T) {
	w := newWorld(t)
	w.service("web", 1, 1, nil)
	w.step()
	for range 2 {
		for _, task := range w.tasks("web") {
			w.run(task)
		}
	}
	for _, task := range w.tasks("web") {
		r := proto.CloneOf(task.Status)
		r.StartedAt = timestamppb.New(w.now.Add(time.Hour))
		w.put(model.KindTaskStatus, "c", r.GetTask(), r)
	}
	w.now = w.now.Add(2 * time.Second)
	w.step()
	want(t, "steady", true, w.status("web").GetDeployments()[0].GetSteady())
}
