package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func lastPart(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

// arns is the set of the tasks' ARNs.
func arns(tasks []*pb.Task) map[string]bool {
	m := map[string]bool{}
	for _, t := range tasks {
		m[t.GetTaskArn()] = true
	}
	return m
}

func TestServiceSpreadsServesAndReplacesAKilledContainer(t *testing.T) {
	c := on(t)
	c.service("web", c.register("web", "1", nil), 3)
	tasks := c.tasks("web")
	hosts := map[int]bool{}
	for _, task := range tasks {
		hosts[c.host(task)] = true
		c.until("it serves", func() (bool, string) {
			out, err := c.get(task, "/")
			return err == nil && strings.Contains(out, lastPart(task.GetTaskArn())), fmt.Sprint(out, err)
		})
	}
	if len(hosts) != 3 {
		t.Errorf("the tasks are on %d hosts, want 3", len(hosts))
	}
	victim := tasks[0]
	pid := c.process(victim)
	if pid == 0 {
		t.Fatal("the task's process was not found")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	dead := c.status(victim.GetTaskArn(), "STOPPED")
	if got := dead.GetContainers()[0].GetExitCode(); got != 137 {
		t.Errorf("exit code is %d, want 137", got)
	}
	c.steady("web", 3)
	if arns(c.tasks("web"))[victim.GetTaskArn()] {
		t.Error("the killed task is still there")
	}
}

func TestServiceMovesFromADeadHost(t *testing.T) {
	c := on(t)
	c.service("mobile", c.register("mobile", "1", nil), 3)
	victim := c.tasks("mobile")[0]
	n := c.host(victim)
	if err := c.KillHost(c.ctx, n); err != nil {
		t.Fatal(err)
	}
	dead := c.status(victim.GetTaskArn(), "STOPPED")
	if !strings.Contains(strings.ToLower(dead.GetStoppedReason()), "host") {
		t.Errorf("stoppedReason is %q", dead.GetStoppedReason())
	}
	c.steady("mobile", 3)
	for _, task := range c.tasks("mobile") {
		if c.host(task) == n {
			t.Errorf("task %s is on the dead host", task.GetTaskArn())
		}
	}
	if err := c.StartHost(c.ctx, n); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitJoined(c.ctx, 3); err != nil {
		t.Fatal(err)
	}
	c.steady("mobile", 3)
}

func TestHostThatWasCutOffReturnsWithoutItsTasks(t *testing.T) {
	c := on(t)
	c.service("cut", c.register("cut", "1", nil), 3)
	victim := c.tasks("cut")[0]
	n := c.host(victim)
	pid := c.process(victim)
	if err := c.CutHost(n); err != nil {
		t.Fatal(err)
	}
	c.status(victim.GetTaskArn(), "STOPPED")
	if _, err := os.Stat("/proc/" + itoa(pid)); err != nil {
		t.Error("a host that is cut off must keep running what it runs")
	}
	c.steady("cut", 3)
	if err := c.HealHost(n); err != nil {
		t.Fatal(err)
	}
	c.until("the host ends what is no longer its own", func() (bool, string) {
		_, err := os.Stat("/proc/" + itoa(pid))
		return os.IsNotExist(err), "still running"
	})
	c.steady("cut", 3)
}

func TestRollingUpdateNeverDropsBelowMinimum(t *testing.T) {
	c := on(t)
	c.service("rolling", c.register("rolling", "1", nil), 3)
	second := c.register("rolling", "2", nil)

	var lowest, highest = 99, 0
	watch, stop := context.WithCancel(c.ctx)
	var g errgroup.Group
	g.Go(func() error {
		for watch.Err() == nil {
			d, err := c.ecs.DescribeServices(watch, &pb.DescribeServicesRequest{Services: []string{"rolling"}})
			if err != nil {
				break
			}
			s := d.GetServices()[0]
			lowest = min(lowest, int(s.GetRunningCount()))
			highest = max(highest, int(s.GetRunningCount()+s.GetPendingCount()))
		}
		return nil
	})
	if _, err := c.ecs.UpdateService(c.ctx, &pb.UpdateServiceRequest{Service: "rolling", TaskDefinition: second}); err != nil {
		t.Fatal(err)
	}
	c.until("rolled", func() (bool, string) {
		s := c.describe("rolling")
		return len(s.GetDeployments()) == 1 && s.GetTaskDefinition() == second &&
			s.GetDeployments()[0].GetRolloutState() == pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_COMPLETED, fmt.Sprint(s)
	})
	stop()
	_ = g.Wait()
	if lowest < 3 || highest > 6 {
		t.Errorf("running fell to %d (minimum 3), total rose to %d (maximum 6)", lowest, highest)
	}
	c.steady("rolling", 3)
	for _, task := range c.tasks("rolling") {
		c.until("version 2 answers", func() (bool, string) {
			out, err := c.get(task, "/")
			return err == nil && strings.Contains(out, "2"), fmt.Sprint(out, err)
		})
	}
}

func TestCircuitBreakerRollsBack(t *testing.T) {
	c := on(t)
	good := c.register("breaker", "1", nil)
	c.service("breaker", good, 2)
	bad := c.register("breaker", "1", func(r *pb.RegisterTaskDefinitionRequest) {
		r.ContainerDefinitions[0].Command = []string{"-print", "broken", "-exit-code", "1"}
	})
	if _, err := c.ecs.UpdateService(c.ctx, &pb.UpdateServiceRequest{Service: "breaker", TaskDefinition: bad,
		DeploymentConfiguration: &pb.DeploymentConfiguration{DeploymentCircuitBreaker: &pb.DeploymentCircuitBreaker{Enable: true, Rollback: true}}}); err != nil {
		t.Fatal(err)
	}
	c.until("rolled back", func() (bool, string) {
		s := c.describe("breaker")
		return len(s.GetDeployments()) == 1 && s.GetDeployments()[0].GetTaskDefinition() == good && s.GetRunningCount() == 2, fmt.Sprint(s)
	})
}

func TestScaleAndDrain(t *testing.T) {
	c := on(t)
	c.service("scaled", c.register("scaled", "1", nil), 2)
	c.must("service", "scale", "scaled", "5")
	c.steady("scaled", 5)
	c.must("service", "scale", "scaled", "3")
	c.steady("scaled", 3)
	task := c.tasks("scaled")[0]
	instance := lastPart(task.GetContainerInstanceArn())
	c.must("instance", "drain", instance)
	defer c.must("instance", "activate", instance)
	c.until("the host is empty", func() (bool, string) {
		n := 0
		for _, task := range c.tasks("scaled") {
			if lastPart(task.GetContainerInstanceArn()) == instance {
				n++
			}
		}
		return n == 0, fmt.Sprint(n, " tasks are left")
	})
	c.steady("scaled", 3)
}

// identity is what must not change when only Plimsoll's own programs restart.
func (t *test) identity(service string) map[string]string {
	out := map[string]string{}
	for _, task := range t.tasks(service) {
		pid := t.process(task)
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatalf("process %d of task %s: %v", pid, task.GetTaskArn(), err)
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		out[task.GetTaskArn()] = fmt.Sprint(pid, " since ", fields[19], " ", task.GetStartedAt().AsTime())
	}
	return out
}

func same(a, b map[string]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func TestAgentKilledAndRestartedLeavesContainersAlone(t *testing.T) {
	c := on(t)
	c.service("adopted", c.register("adopted", "1", nil), 3)
	before := c.identity("adopted")
	for n := 1; n <= 3; n++ {
		if err := c.KillAgent(c.ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= 3; n++ {
		if err := c.StartAgent(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WaitJoined(c.ctx, 3); err != nil {
		t.Fatal(err)
	}
	c.settle()
	if after := c.identity("adopted"); !same(before, after) {
		t.Errorf("before %v\nafter  %v", before, after)
	}
	// An adopted task is still watched, still reachable, and still stops.
	task := c.tasks("adopted")[0]
	if out, err := c.get(task, "/"); err != nil || !strings.Contains(out, lastPart(task.GetTaskArn())) {
		t.Errorf("an adopted task answers %q, %v", out, err)
	}
	if err := syscall.Kill(c.process(task), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.status(task.GetTaskArn(), "STOPPED")
	c.steady("adopted", 3)
}

// settle waits until what a restart could have set off would show: longer than
// the loss timeout.
func (t *test) settle() {
	t.Helper()
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
		t.Fatal(t.ctx.Err())
	}
}

func TestControlPlaneKilledAndRestartedChangesNoTask(t *testing.T) {
	c := on(t)
	c.service("kept", c.register("kept", "1", nil), 3)
	before := c.identity("kept")
	if err := c.KillPlimd(c.ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.StartPlimd(c.ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitJoined(c.ctx, 3); err != nil {
		t.Fatal(err)
	}
	c.settle()
	if after := c.identity("kept"); !same(before, after) {
		t.Errorf("before %v\nafter  %v", before, after)
	}
	c.must("service", "scale", "kept", "4")
	c.steady("kept", 4)
}

func TestContainerdKilledAndRestartedLeavesContainersAlone(t *testing.T) {
	c := on(t)
	c.service("shimmed", c.register("shimmed", "1", nil), 3)
	before := c.identity("shimmed")
	if err := c.KillContainerd(c.ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := c.StartContainerd(c.ctx, 1); err != nil {
		t.Fatal(err)
	}
	c.settle()
	if after := c.identity("shimmed"); !same(before, after) {
		t.Errorf("before %v\nafter  %v", before, after)
	}
	for _, task := range c.tasks("shimmed") {
		if _, err := c.ecs.StopTask(c.ctx, &pb.StopTaskRequest{Task: task.GetTaskArn()}); err != nil {
			t.Fatal(err)
		}
		c.status(task.GetTaskArn(), "STOPPED")
	}
	c.steady("shimmed", 3)
}

func TestHostWithoutItsRuntimeGetsNoTasks(t *testing.T) {
	c := on(t)
	definition := c.register("impaired", "1", nil)
	c.service("impaired", definition, 3)
	before := c.identity("impaired")
	if err := c.KillContainerd(c.ctx, 1); err != nil {
		t.Fatal(err)
	}
	back := false
	defer func() {
		if !back {
			_ = c.StartContainerd(context.Background(), 1)
		}
	}()
	host := func() *pb.ContainerInstance {
		all, err := c.ecs.ListContainerInstances(c.ctx, &pb.ListContainerInstancesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.ecs.DescribeContainerInstances(c.ctx, &pb.DescribeContainerInstancesRequest{ContainerInstances: all.GetContainerInstanceArns(),
			Include: []pb.ContainerInstanceField{pb.ContainerInstanceField_CONTAINER_INSTANCE_FIELD_CONTAINER_INSTANCE_HEALTH}})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range d.GetContainerInstances() {
			if i.GetEc2InstanceId() == c.State().Hosts[0].Name {
				return i
			}
		}
		t.Fatal("the host is gone")
		return nil
	}
	health := func(want pb.InstanceHealthCheckState) {
		t.Helper()
		c.until("health "+want.String(), func() (bool, string) {
			i := host()
			return i.GetHealthStatus().GetOverallStatus() == want, i.GetHealthStatus().String()
		})
	}
	health(pb.InstanceHealthCheckState_INSTANCE_HEALTH_CHECK_STATE_IMPAIRED)
	// One that is to run there is refused with the reason.
	started, err := c.ecs.StartTask(c.ctx, &pb.StartTaskRequest{TaskDefinition: definition, ContainerInstances: []string{host().GetContainerInstanceArn()}})
	if err != nil {
		t.Fatal(err)
	}
	if len(started.GetTasks()) != 0 || len(started.GetFailures()) != 1 || !strings.Contains(started.GetFailures()[0].GetReason(), "CONTAINER_RUNTIME") {
		t.Errorf("StartTask on a host without its runtime: %v", started)
	}
	c.must("service", "scale", "impaired", "6")
	c.steady("impaired", 6)
	for _, task := range c.tasks("impaired") {
		if _, old := before[task.GetTaskArn()]; !old && c.host(task) == 1 {
			t.Errorf("task %s is on the host without its runtime", task.GetTaskArn())
		}
	}
	if err := c.StartContainerd(c.ctx, 1); err != nil {
		t.Fatal(err)
	}
	back = true
	health(pb.InstanceHealthCheckState_INSTANCE_HEALTH_CHECK_STATE_OK)
	after := c.identity("impaired")
	for arn, was := range before {
		if after[arn] != was {
			t.Errorf("task %s was %s and is %s", arn, was, after[arn])
		}
	}
}
