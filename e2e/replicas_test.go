package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/plimsoll-project/plimsoll/e2e/lab"
	"github.com/plimsoll-project/plimsoll/e2e/sample"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// replicas is a control plane of two processes on an etcd of its own. The lab's
// plimd, which the host asks first, is the one; other is the second's client.
type replicas struct {
	*test
	other *test
	dir   string
}

// freePort answers a port of loopback that nothing listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// background starts a program until the test ends.
func background(t *testing.T, log, path string, args ...string) {
	t.Helper()
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(log), lab.Tail(log, 40))
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("/tmp", "plim-ha-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })

	etcd := filepath.Join(dir, "etcd")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", etcd, "go.etcd.io/etcd/server/v3").CombinedOutput(); err != nil {
		t.Fatalf("build etcd: %v: %s", err, out)
	}
	endpoint := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	peer := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	background(t, filepath.Join(dir, "etcd.log"), etcd, "--data-dir", filepath.Join(dir, "etcd-data"), "--log-level", "error",
		"--listen-client-urls", endpoint, "--advertise-client-urls", endpoint, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)

	bin, err := filepath.Abs("../bin")
	if err != nil {
		t.Fatal(err)
	}
	address, registry := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	shared := []string{"--etcd-endpoints", endpoint, "--instance-loss-timeout", "8s"}
	l, err := lab.Start(ctx, lab.Config{
		DataDir: filepath.Join(dir, "lab"), Nodes: 1, BinDir: bin, AccountID: "123456789012", Region: "us-east-1",
		PlimdArgs: shared, AgentArgs: []string{"--server", address},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.Logs(40))
		}
		if err := l.Stop(context.Background(), false); err != nil {
			t.Error(err)
		}
	})
	background(t, filepath.Join(dir, "plimd-2.log"), filepath.Join(bin, "plimd"), append(slices.Clone(shared),
		"--data-dir", filepath.Join(dir, "plimd-2"), "--listen", address, "--registry-listen", registry, "--metrics-listen", "",
		"--seal-key-file", filepath.Join(dir, "lab", "plimd", "seal.key"), "--account-id", "123456789012", "--region", "us-east-1")...)

	client := func(address string) *test {
		cfg := l.Client()
		cfg.Address = address
		conn, err := cfg.Dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &test{ctx: ctx, T: t, cluster: &cluster{
			Lab: l, bin: bin, conn: conn, ecs: pb.NewEcsServiceClient(conn), admin: pb.NewAdminServiceClient(conn),
			env: append(os.Environ(), "PLIMSOLL_ADDRESS="+cfg.Address, "PLIMSOLL_CA="+cfg.CA, "PLIMSOLL_CERT="+cfg.Cert, "PLIMSOLL_KEY="+cfg.Key),
		}}
	}
	r := &replicas{test: client(l.Client().Address), other: client(address), dir: dir}
	if _, err := r.other.admin.GetInfo(ctx, &pb.GetInfoRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	return r
}

// leads waits until the replica that is asked knows a leader and answers whether
// it is itself.
func (t *test) leads() bool {
	t.Helper()
	var itself bool
	t.until("a leader", func() (bool, string) {
		info, err := t.admin.GetInfo(t.ctx, &pb.GetInfoRequest{}, grpc.WaitForReady(true))
		if err != nil {
			return false, err.Error()
		}
		itself = info.GetReplica() == info.GetLeader()
		return info.GetLeader() != "", info.String()
	})
	return itself
}

// refusal is an error as clients see it.
func refusal(err error) string {
	s := status.Convert(err)
	text := s.Code().String() + ": " + s.Message()
	for _, d := range s.Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			text += " " + i.GetDomain() + "/" + i.GetReason()
		}
	}
	return text
}

func TestReplicasAreOneControlPlane(t *testing.T) {
	r := newReplicas(t)
	if !r.leads() || r.other.leads() {
		t.Fatal("the first replica does not lead alone")
	}

	// An image that only the other replica has.
	archive := filepath.Join(r.dir, "sample.tar")
	if err := sample.Build(r.ctx, "1", archive); err != nil {
		t.Fatal(err)
	}
	r.other.must("image", "push", archive, "sample:1")
	definition := r.other.register("web", "1", nil)

	// Calls of the leader alone, asked of the follower; the output is fetched from
	// the replica that holds the host's session.
	task := r.other.runTask(definition, "-print", "hello from a task", "-exit-code", "7")
	if got := r.other.status(task, "STOPPED").GetContainers()[0].GetExitCode(); got != 7 {
		t.Errorf("exit code %d, want 7", got)
	}
	for _, c := range []*test{r.test, r.other} {
		if out := c.must("task", "logs", lastPart(task)); !strings.Contains(out, "hello from a task") {
			t.Errorf("the task's output: %q", out)
		}
	}
	task = r.other.runTask(definition)
	r.other.status(task, "RUNNING")
	if _, err := r.other.ecs.TagResource(r.ctx, &pb.TagResourceRequest{ResourceArn: task, Tags: []*pb.Tag{{Key: "a", Value: "b"}}}); err != nil {
		t.Error(err)
	}
	if _, err := r.other.ecs.StopTask(r.ctx, &pb.StopTaskRequest{Task: task}); err != nil {
		t.Error(err)
	}
	r.status(task, "STOPPED")
	for _, bad := range []func(*test) error{
		func(c *test) error {
			_, err := c.ecs.StopTask(c.ctx, &pb.StopTaskRequest{Task: strings.Repeat("0", 32)})
			return err
		},
		func(c *test) error {
			_, err := c.ecs.RunTask(c.ctx, &pb.RunTaskRequest{TaskDefinition: "none"})
			return err
		},
	} {
		if a, b := refusal(bad(r.test)), refusal(bad(r.other)); a != b || !strings.Contains(a, "Exception") {
			t.Errorf("the leader says %q, the follower %q", a, b)
		}
	}

	// The leader dies. What runs does not notice; what is asked meanwhile is
	// answered late or with an error that says to try again.
	r.other.service("web", definition, 3)
	r.other.steady("web", 3)
	before := r.other.identity("web")
	began := time.Now()
	if err := r.KillPlimd(r.ctx); err != nil {
		t.Fatal(err)
	}
	var started string
	r.other.until("a task is started", func() (bool, string) {
		answer, err := r.other.ecs.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: definition, StartedBy: "failover"})
		switch {
		case err == nil && len(answer.GetTasks()) == 1:
			started = answer.GetTasks()[0].GetTaskArn()
		case err != nil && status.Code(err) != codes.Unavailable:
			t.Fatalf("while nobody leads: %v", err)
		case err == nil && !slices.ContainsFunc(answer.GetFailures(), func(f *pb.Failure) bool { return strings.HasPrefix(f.GetReason(), "AGENT") }):
			t.Fatalf("while the host has no session: %v", answer)
		}
		return started != "", fmt.Sprint(answer, err)
	})
	r.other.status(started, "RUNNING")
	t.Logf("a task runs %.1f s after the leader was killed", time.Since(began).Seconds())
	if !r.other.leads() {
		t.Error("the other replica does not lead")
	}
	r.other.steady("web", 3)
	if after := r.other.identity("web"); !same(before, after) {
		t.Errorf("the service's containers were %v and are %v", before, after)
	}
	list, err := r.other.ecs.ListTasks(r.ctx, &pb.ListTasksRequest{StartedBy: "failover"})
	if err != nil || len(list.GetTaskArns()) != 1 {
		t.Errorf("tasks that were started while nobody led: %v, %v", list, err)
	}

	// It returns, and follows.
	if err := r.StartPlimd(r.ctx); err != nil {
		t.Fatal(err)
	}
	if r.leads() {
		t.Error("the replica that returned leads")
	}
	task = r.runTask(definition)
	r.other.status(task, "RUNNING")
	if out := r.must("task", "logs", lastPart(task)); !strings.Contains(out, "serves on") {
		t.Errorf("the output by the replica without the host's session: %q", out)
	}
	if after := r.identity("web"); !same(before, after) {
		t.Errorf("the service's containers were %v and are %v", before, after)
	}
}

// A leader that hangs keeps its connections; another one replaces it, and nobody
// waits for the first.
func TestCallsEndWhenTheLeaderHangs(t *testing.T) {
	r := newReplicas(t)
	if !r.leads() {
		t.Fatal("the first replica does not lead")
	}
	definition := r.register("web", "1", nil)
	bad := func(ctx context.Context) error {
		_, err := r.other.ecs.StopTask(ctx, &pb.StopTaskRequest{Task: strings.Repeat("0", 32)})
		return err
	}
	if err := bad(r.ctx); status.Code(err) == codes.Unavailable {
		t.Fatal(err) // the follower is connected to the leader
	}
	hung := r.State().Plimd
	if err := hung.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hung.Signal(unix.SIGCONT) })

	ctx, cancel := context.WithTimeout(r.ctx, 15*time.Second)
	defer cancel()
	if err := bad(ctx); status.Code(err) != codes.Unavailable {
		t.Errorf("a call to a leader that hangs: %v, want Unavailable", err)
	}
	if !r.other.leads() {
		t.Error("the other replica does not lead")
	}
	if err := hung.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.until("the first replica follows", func() (bool, string) {
		info, err := r.admin.GetInfo(r.ctx, &pb.GetInfoRequest{})
		return err == nil && info.GetLeader() != "" && info.GetLeader() != info.GetReplica(), fmt.Sprint(info, err)
	})
	if _, err := r.ecs.RunTask(r.ctx, &pb.RunTaskRequest{TaskDefinition: definition}); err != nil {
		t.Errorf("a call of the replica that hung: %v", err)
	}
}
