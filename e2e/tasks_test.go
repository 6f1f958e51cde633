package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestTaskRunsToItsExitCode(t *testing.T) {
	c := on(t)
	def := c.register("once", "1", nil)
	arn := c.runTask(def, "-print", "hello from a task", "-exit-code", "7")
	task := c.status(arn, "STOPPED")
	if got := task.GetContainers()[0].GetExitCode(); got != 7 {
		t.Errorf("exit code is %d, want 7", got)
	}
	if got := task.GetStopCode(); got != pb.TaskStopCode_TASK_STOP_CODE_ESSENTIAL_CONTAINER_EXITED {
		t.Errorf("stopCode is %v", got)
	}
	if task.GetStoppedAt() == nil || task.GetStartedAt() == nil {
		t.Errorf("startedAt %v, stoppedAt %v: both must be set", task.GetStartedAt(), task.GetStoppedAt())
	}
	if out := c.must("task", "logs", arn); !strings.Contains(out, "hello from a task") {
		t.Errorf("logs are %q", out)
	}
}

func TestStopSendsSIGTERMAndReleasesEverything(t *testing.T) {
	c := on(t)
	arn := c.runTask(c.register("stopped", "1", nil))
	task := c.status(arn, "RUNNING")
	c.until("it serves", func() (bool, string) { _, err := c.get(task, "/healthz"); return err == nil, fmt.Sprint(err) })
	begin := time.Now()
	if _, err := c.ecs.StopTask(c.ctx, &pb.StopTaskRequest{Task: arn, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	task = c.status(arn, "STOPPED")
	if time.Since(begin) > 20*time.Second {
		t.Errorf("the stop took %s: SIGTERM was not honoured", time.Since(begin))
	}
	if task.GetStopCode() != pb.TaskStopCode_TASK_STOP_CODE_USER_INITIATED || task.GetContainers()[0].GetExitCode() != 0 {
		t.Errorf("stopped task is %v", task)
	}
	if pid := c.process(task); pid != 0 {
		t.Errorf("process %d is left", pid)
	}
}

func TestStopKillsWhatIgnoresSIGTERM(t *testing.T) {
	c := on(t)
	def := c.register("stubborn", "1", func(r *pb.RegisterTaskDefinitionRequest) {
		r.ContainerDefinitions[0].StopTimeout = ptr(int32(2))
		r.ContainerDefinitions[0].Command = []string{"-ignore-sigterm"}
	})
	arn := c.runTask(def)
	task := c.status(arn, "RUNNING")
	c.until("it serves", func() (bool, string) { _, err := c.get(task, "/healthz"); return err == nil, "" })
	if _, err := c.ecs.StopTask(c.ctx, &pb.StopTaskRequest{Task: arn}); err != nil {
		t.Fatal(err)
	}
	task = c.status(arn, "STOPPED")
	if got := task.GetContainers()[0].GetExitCode(); got != 137 {
		t.Errorf("exit code is %d, want 137", got)
	}
}

func TestImageThatDoesNotExistIsAReason(t *testing.T) {
	c := on(t)
	arn := c.runTask(c.register("missing", "none", nil))
	task := c.status(arn, "STOPPED")
	if task.GetStopCode() != pb.TaskStopCode_TASK_STOP_CODE_TASK_FAILED_TO_START ||
		!strings.Contains(task.GetStoppedReason()+task.GetContainers()[0].GetReason(), "CannotPull") {
		t.Errorf("task is %v", task)
	}
}

func TestKilledShimEndsTheTask(t *testing.T) {
	c := on(t)
	arn := c.runTask(c.register("shimless", "1", nil))
	task := c.status(arn, "RUNNING")
	pid := c.process(task)
	if pid == 0 {
		t.Fatal("the task's process was not found")
	}
	shim := parent(t, pid)
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	task = c.status(arn, "STOPPED")
	if got := task.GetContainers()[0].GetExitCode(); got != 137 {
		t.Errorf("exit code is %d, want 137", got)
	}
	if pid := c.process(task); pid != 0 {
		t.Errorf("process %d outlived its shim", pid)
	}
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return atoi(t, f[1])
}

func TestPlacementFailuresSayWhy(t *testing.T) {
	c := on(t)
	big := c.register("big", "1", func(r *pb.RegisterTaskDefinitionRequest) {
		r.ContainerDefinitions[0].Memory = ptr(int32(1 << 24))
	})
	r, err := c.ecs.RunTask(c.ctx, &pb.RunTaskRequest{TaskDefinition: big})
	if err != nil || len(r.GetTasks()) != 0 || len(r.GetFailures()) != 1 || r.GetFailures()[0].GetReason() != "RESOURCE:MEMORY" {
		t.Errorf("run task: %v, %v", r, err)
	}
}

func TestStaticHostPortIsUsedOncePerHost(t *testing.T) {
	c := on(t)
	def := c.register("fixed", "1", func(r *pb.RegisterTaskDefinitionRequest) {
		r.ContainerDefinitions[0].PortMappings[0].HostPort = ptr(int32(18080))
	})
	r, err := c.ecs.RunTask(c.ctx, &pb.RunTaskRequest{TaskDefinition: def, Count: ptr(int32(4))})
	if err != nil || len(r.GetTasks()) != 3 || len(r.GetFailures()) != 1 || r.GetFailures()[0].GetReason() != "RESOURCE:PORTS" {
		t.Fatalf("run 4 tasks with one port on 3 hosts: %v, %v", r, err)
	}
	for _, task := range r.GetTasks() {
		running := c.status(task.GetTaskArn(), "RUNNING")
		c.until("it serves", func() (bool, string) {
			out, err := c.get(running, "/")
			return err == nil && strings.Contains(out, lastPart(task.GetTaskArn())), out
		})
		if _, err := c.ecs.StopTask(c.ctx, &pb.StopTaskRequest{Task: task.GetTaskArn()}); err != nil {
			t.Error(err)
		}
	}
	for _, task := range r.GetTasks() {
		c.status(task.GetTaskArn(), "STOPPED")
	}
}

func TestBadInputIsRefusedByName(t *testing.T) {
	c := on(t)
	good := func() *pb.RegisterTaskDefinitionRequest {
		return &pb.RegisterTaskDefinitionRequest{Family: "bad", ContainerDefinitions: []*pb.ContainerDefinition{{
			Name: "web", Image: "x", Memory: ptr(int32(64))}}}
	}
	for _, tc := range []struct {
		name string
		edit func(*pb.RegisterTaskDefinitionRequest)
		want string
	}{
		{"no family", func(r *pb.RegisterTaskDefinitionRequest) { r.Family = "" }, "family"},
		{"bad family", func(r *pb.RegisterTaskDefinitionRequest) { r.Family = "a b" }, "family"},
		{"no containers", func(r *pb.RegisterTaskDefinitionRequest) { r.ContainerDefinitions = nil }, "containerDefinitions"},
		{"no image", func(r *pb.RegisterTaskDefinitionRequest) { r.ContainerDefinitions[0].Image = "" }, "image"},
		{"no memory", func(r *pb.RegisterTaskDefinitionRequest) { r.ContainerDefinitions[0].Memory = nil }, "memory"},
		{"bad port", func(r *pb.RegisterTaskDefinitionRequest) {
			r.ContainerDefinitions[0].PortMappings = []*pb.PortMapping{{ContainerPort: ptr(int32(70000))}}
		}, "containerPort"},
		{"not honoured yet", func(r *pb.RegisterTaskDefinitionRequest) { r.TaskRoleArn = "arn:aws:iam::1:role/x" }, "taskRoleArn"},
	} {
		r := good()
		tc.edit(r)
		_, err := c.ecs.RegisterTaskDefinition(c.ctx, r)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want InvalidArgument that names %s", tc.name, err, tc.want)
		}
	}
	for _, tc := range []struct{ args, want string }{
		{"service create --name x --task-definition nope --desired-count 1", "nope"},
		{"service describe nope", "nope"},
		{"task describe 0123456789abcdef0123456789abcdef", "0123456789abcdef"},
		{"taskdef register -f /nonexistent.json", "/nonexistent.json"},
		{"cluster describe nope", "nope"},
		{"service create --name x --task-definition web --desired-count -1", "desired"},
	} {
		out, err := c.plim(c.ctx, strings.Fields(tc.args)...)
		if err == nil || !strings.Contains(out, tc.want) || strings.Count(strings.TrimSpace(out), "\n") > 2 {
			t.Errorf("plim %s: %v: %q, want one line that names %q", tc.args, err, out, tc.want)
		}
	}
}
