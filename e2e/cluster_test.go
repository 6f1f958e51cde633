package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/plimsoll-project/plimsoll/e2e/lab"
	"github.com/plimsoll-project/plimsoll/e2e/sample"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// patience bounds every wait; nothing should come near it.
const patience = 90 * time.Second

// cluster is the lab that the tests share, with three hosts.
type cluster struct {
	*lab.Lab
	conn  *grpc.ClientConn
	ecs   pb.EcsServiceClient
	admin pb.AdminServiceClient
	bin   string
	env   []string
}

var shared *cluster

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: these tests need root: run them with sudo, or make test")
		return 1
	}
	dir, err := os.MkdirTemp("/tmp", "plim-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	shared, err = start(ctx, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: start the lab:", err)
		return 1
	}
	code := m.Run()
	if code != 0 {
		fmt.Fprintln(os.Stderr, shared.Logs(60))
	}
	if err := shared.Stop(context.WithoutCancel(ctx), false); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: stop the lab:", err)
		return 1
	}
	return code
}

func start(ctx context.Context, dir string) (*cluster, error) {
	bin, err := filepath.Abs("../bin")
	if err != nil {
		return nil, err
	}
	l, err := lab.Start(ctx, lab.Config{
		DataDir: filepath.Join(dir, "lab"), Nodes: 3, BinDir: bin, AccountID: "123456789012", Region: "us-east-1",
		PlimdArgs: []string{"--instance-loss-timeout", "4s"},
		Progress:  func(s string) { fmt.Fprintln(os.Stderr, "e2e:", s) }, Logger: slog.Default(),
	})
	if err != nil {
		return nil, err
	}
	c := &cluster{Lab: l, bin: bin}
	if err := c.prepare(ctx, dir); err != nil {
		return nil, errors.Join(err, l.Stop(ctx, false))
	}
	return c, nil
}

// prepare connects and pushes two versions of the sample image.
func (c *cluster) prepare(ctx context.Context, dir string) error {
	cfg := c.Client()
	conn, err := cfg.Dial()
	if err != nil {
		return err
	}
	c.conn, c.ecs, c.admin = conn, pb.NewEcsServiceClient(conn), pb.NewAdminServiceClient(conn)
	c.env = append(os.Environ(), "PLIMSOLL_ADDRESS="+cfg.Address, "PLIMSOLL_CA="+cfg.CA, "PLIMSOLL_CERT="+cfg.Cert, "PLIMSOLL_KEY="+cfg.Key)
	for _, version := range []string{"1", "2"} {
		archive := filepath.Join(dir, "sample-"+version+".tar")
		if err := sample.Build(ctx, version, archive); err != nil {
			return fmt.Errorf("build the sample image: %w", err)
		}
		if out, err := c.plim(ctx, "image", "push", archive, "sample:"+version); err != nil {
			return fmt.Errorf("push the sample image: %w: %s", err, out)
		}
	}
	return nil
}

// plim runs the command line and answers all that it prints.
func (c *cluster) plim(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "plim"), args...)
	cmd.Env = c.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// test is the shared cluster with one test's context.
type test struct {
	*cluster
	*testing.T
	ctx context.Context
}

func on(t *testing.T) *test {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return &test{cluster: shared, T: t, ctx: ctx}
}

// must runs the command line and fails the test if it fails.
func (t *test) must(args ...string) string {
	t.Helper()
	out, err := t.plim(t.ctx, args...)
	if err != nil {
		t.Fatalf("plim %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// until waits for a condition, asked again every 20 ms.
func (t *test) until(what string, condition func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for {
		ok, state := condition()
		if ok {
			return
		}
		last = state
		select {
		case <-tick.C:
		case <-t.ctx.Done():
			t.Fatalf("%s: not within %s; it is %s", what, patience, last)
		}
	}
}

// register registers a definition with one container of the sample image.
func (t *test) register(family, version string, edit func(*pb.RegisterTaskDefinitionRequest)) string {
	t.Helper()
	memory := int32(64)
	r := &pb.RegisterTaskDefinitionRequest{Family: family, ContainerDefinitions: []*pb.ContainerDefinition{{
		Name: "web", Image: "registry.plimsoll.internal/sample:" + version, Cpu: 64, Memory: &memory,
		PortMappings: []*pb.PortMapping{{ContainerPort: ptr(int32(8080))}},
	}}}
	if edit != nil {
		edit(r)
	}
	d, err := t.ecs.RegisterTaskDefinition(t.ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return d.GetTaskDefinition().GetTaskDefinitionArn()
}

// service creates a service, waits until it is steady, and deletes it with the
// test.
func (t *test) service(name, definition string, count int32) {
	t.Helper()
	if _, err := t.ecs.CreateService(t.ctx, &pb.CreateServiceRequest{ServiceName: name, TaskDefinition: definition, DesiredCount: &count}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := t.ecs.DeleteService(ctx, &pb.DeleteServiceRequest{Service: name, Force: ptr(true)}); err != nil {
			t.Errorf("delete service %s: %v", name, err)
		}
	})
	t.steady(name, int(count))
}

func (t *test) steady(name string, count int) {
	t.Helper()
	t.until("service "+name+" steady", func() (bool, string) {
		s := t.describe(name)
		return len(s.GetDeployments()) == 1 && int(s.GetRunningCount()) == count && int(s.GetDesiredCount()) == count &&
			s.GetPendingCount() == 0 && len(t.tasks(name)) == count &&
			s.GetDeployments()[0].GetRolloutState() == pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_COMPLETED, fmt.Sprint(s)
	})
}

func (t *test) describe(name string) *pb.Service {
	t.Helper()
	d, err := t.ecs.DescribeServices(t.ctx, &pb.DescribeServicesRequest{Services: []string{name}})
	if err != nil || len(d.GetServices()) != 1 {
		t.Fatalf("describe service %s: %v, %v", name, d, err)
	}
	return d.GetServices()[0]
}

// tasks answers a service's tasks that are to run.
func (t *test) tasks(name string) []*pb.Task {
	t.Helper()
	l, err := t.ecs.ListTasks(t.ctx, &pb.ListTasksRequest{ServiceName: name})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.GetTaskArns()) == 0 {
		return nil
	}
	return t.describeTasks(l.GetTaskArns()...)
}

func (t *test) describeTasks(arns ...string) []*pb.Task {
	t.Helper()
	d, err := t.ecs.DescribeTasks(t.ctx, &pb.DescribeTasksRequest{Tasks: arns})
	if err != nil || len(d.GetFailures()) != 0 {
		t.Fatalf("describe tasks: %v, %v", d.GetFailures(), err)
	}
	return d.GetTasks()
}

// status waits until the task is in the status and answers it.
func (t *test) status(arn, status string) *pb.Task {
	t.Helper()
	var task *pb.Task
	t.until("task "+arn+" "+status, func() (bool, string) {
		task = t.describeTasks(arn)[0]
		return task.GetLastStatus() == status, fmt.Sprint(task)
	})
	return task
}

// run starts one task.
func (t *test) runTask(definition string, command ...string) string {
	t.Helper()
	r, err := t.ecs.RunTask(t.ctx, &pb.RunTaskRequest{TaskDefinition: definition, Overrides: &pb.TaskOverride{
		ContainerOverrides: []*pb.ContainerOverride{{Name: "web", Command: command}}}})
	if err != nil || len(r.GetFailures()) != 0 || len(r.GetTasks()) != 1 {
		t.Fatalf("run task: %v, %v", r, err)
	}
	return r.GetTasks()[0].GetTaskArn()
}

// host is the number of the host that a task is on, 1 to 3.
func (t *test) host(task *pb.Task) int {
	t.Helper()
	d, err := t.ecs.DescribeContainerInstances(t.ctx, &pb.DescribeContainerInstancesRequest{ContainerInstances: []string{task.GetContainerInstanceArn()}})
	if err != nil || len(d.GetContainerInstances()) != 1 {
		t.Fatalf("describe %s: %v, %v", task.GetContainerInstanceArn(), d, err)
	}
	hosts := t.State().Hosts
	if len(hosts) == 1 { // it has the machine's name
		return 1
	}
	for n, h := range hosts {
		if h.Name == d.GetContainerInstances()[0].GetEc2InstanceId() {
			return n + 1
		}
	}
	t.Fatalf("no host is %s", d.GetContainerInstances()[0].GetEc2InstanceId())
	return 0
}

// get asks the task's published port.
func (t *test) get(task *pb.Task, path string) (string, error) {
	address, err := t.Address(t.host(task))
	if err != nil {
		return "", err
	}
	bindings := task.GetContainers()[0].GetNetworkBindings()
	if len(bindings) == 0 {
		return "", errors.New("no network binding")
	}
	req, err := http.NewRequestWithContext(t.ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", address, bindings[0].GetHostPort(), path), nil)
	if err != nil {
		return "", err
	}
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	return b.String(), err
}

// processes finds the sample's processes on a host: those whose environment
// names the task.
func (t *test) process(task *pb.Task) int {
	t.Helper()
	pids, err := t.Processes(t.host(task))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.Contains(env, []byte("PLIMSOLL_TASK_ARN="+task.GetTaskArn())) && !bytes.Contains(cmdline, []byte("shim")) && !bytes.Contains(cmdline, []byte("runc")) {
			return pid
		}
	}
	return 0
}

func ptr[T any](v T) *T { return &v }
