package node

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/agent/journal"
	"github.com/plimsoll-project/plimsoll/agent/logs"
	"github.com/plimsoll-project/plimsoll/agent/runner"
	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/agent/runtime/fake"
	"github.com/plimsoll-project/plimsoll/agent/session"
	"github.com/plimsoll-project/plimsoll/agent/session/sessiontest"
	networkfake "github.com/plimsoll-project/plimsoll/cni/fake"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// host is a host of fakes under a control plane; it outlives its agent.
type host struct {
	t       *testing.T
	dir     string
	server  *sessiontest.Server
	runtime *fake.Runtime
	network *networkfake.Network
}

func newHost(t *testing.T, script func(runtime.Spec) fake.Script) *host {
	h := &host{t: t, dir: t.TempDir(), server: sessiontest.New(t), runtime: fake.New(script), network: networkfake.New()}
	t.Cleanup(func() { h.runtime.Close() })
	return h
}

func (h *host) config() Config {
	return Config{
		Version: "v1.2.3", Servers: []string{h.server.Address}, JoinToken: h.server.Token, DataDir: filepath.Join(h.dir, "data"),
		RuntimeDir: filepath.Join(h.dir, "run"), BridgeSubnet: "172.30.0.0/16", AvailabilityZone: "a", Hostname: "host-1",
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// agent starts the agent; the answer ends it as SIGTERM does.
func (h *host) agent() (stop func()) {
	h.t.Helper()
	cfg := h.config()
	if err := cfg.complete(); err != nil {
		h.t.Fatal(err)
	}
	id, err := identity(h.t.Context(), cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	j, err := journal.Open(filepath.Join(h.dir, "journal.db"))
	if err != nil {
		h.t.Fatal(err)
	}
	l, err := logs.New(logs.Config{Dir: filepath.Join(h.dir, "logs"), Logger: cfg.Logger})
	if err != nil {
		h.t.Fatal(err)
	}
	n := &node{cfg: cfg, identity: id, runtime: h.runtime, network: h.network, images: present{}, journal: j, logs: l}
	ctx, cancel := context.WithCancel(h.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.serve(ctx) }()
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := errors.Join(<-ended, j.Close()); err != nil {
			h.t.Errorf("the agent ends with %v", err)
		}
	}
	h.t.Cleanup(stop)
	return stop
}

// await waits until ok, and fails the test otherwise.
func (h *host) await(what string, ok func() bool) {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(sessiontest.Patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			h.t.Fatalf("%s did not come", what)
		}
	}
}

// containers are the ids of what is on the host.
func (h *host) containers() (ids []string) {
	h.t.Helper()
	all, err := h.runtime.List(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range all {
		ids = append(ids, c.ID)
	}
	return ids
}

// present is an image store that has every image.
type present struct{}

func (present) Pull(_ context.Context, image string, _ func(string)) (ref, digest string, err error) {
	digest = "sha256:" + strings.Repeat("0", 64)
	return image + "@" + digest, digest, nil
}

func (present) SetRegistry(string, []string, *tls.Config) {}

const id1, id2 = "0000000000000000000000000000000a", "0000000000000000000000000000000b"

func task(id string) *pb.Assignment {
	return &pb.Assignment{
		TaskId: id, Task: &pb.Task{TaskArn: "arn:aws:ecs:us-east-1:123456789012:task/default/" + id, DesiredStatus: "RUNNING"},
		TaskDefinition: &pb.TaskDefinition{Family: "app", Revision: 1, ContainerDefinitions: []*pb.ContainerDefinition{{Name: "app", Image: "app:1"}}},
	}
}

func TestAgentRunsATaskToItsEnd(t *testing.T) {
	h := newHost(t, func(runtime.Spec) fake.Script { return fake.Script{After: fake.Forever, Output: "hello\n"} })
	h.agent()
	h.server.Assign(task(id1))
	h.server.AwaitStatus(id1, "RUNNING")
	if got, err := h.server.Logs("t", &pb.LogsTunnel{TaskId: id1}); err != nil || got != "hello\n" {
		t.Errorf("the logs are %q, %v", got, err)
	}
	if err := h.runtime.Exit(runner.ContainerID(id1, "app"), 7); err != nil {
		t.Fatal(err)
	}
	s := h.server.AwaitStatus(id1, "STOPPED")
	if s.GetContainers()[0].GetExitCode() != 7 || s.GetStopCode() != pb.TaskStopCode_TASK_STOP_CODE_ESSENTIAL_CONTAINER_EXITED {
		t.Errorf("the task is %v", s)
	}
	if left := h.containers(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestStopComesFromTheAssignment(t *testing.T) {
	h := newHost(t, nil)
	h.agent()
	h.server.Assign(task(id1))
	h.server.AwaitStatus(id1, "RUNNING")
	a := proto.CloneOf(task(id1))
	a.Task.DesiredStatus, a.StopCode, a.StoppedReason = "STOPPED", pb.TaskStopCode_TASK_STOP_CODE_SERVICE_SCHEDULER_INITIATED, "scaled in"
	h.server.Assign(a)
	if s := h.server.AwaitStatus(id1, "STOPPED"); s.GetStoppedReason() != "scaled in" || s.GetContainers()[0].GetExitCode() != 143 {
		t.Errorf("the task is %v", s)
	}
}

func TestRestartedAgentTouchesNothing(t *testing.T) {
	h := newHost(t, nil)
	stop := h.agent()
	h.server.Assign(task(id1))
	before := h.server.AwaitStatus(id1, "RUNNING")
	stop()
	calls := len(h.runtime.Calls())
	h.agent()
	h.server.Await("a status of the restarted agent", func(s sessiontest.State) bool {
		return s.Reported[id1].GetVersion() > before.GetVersion()
	})
	for _, c := range h.runtime.Calls()[calls:] {
		if c.Op != fake.OpList && c.Op != fake.OpGet {
			t.Errorf("the restart does %v", c)
		}
	}
	h.server.Await("no second join", func(s sessiontest.State) bool { return s.Joined == 1 })
}

func TestLostAcknowledgementStopsNothing(t *testing.T) {
	h := newHost(t, nil)
	h.agent()
	h.server.Await("a session", func(s sessiontest.State) bool { return s.Sessions == 1 })
	h.server.Deaf(true)
	h.server.Assign(task(id1))
	h.server.Await("a status", func(s sessiontest.State) bool { return s.Reported[id1] != nil })
	h.server.Deaf(false)
	h.server.Break()
	h.server.AwaitStatus(id1, "RUNNING")
	// One more task shows that what came before was worked off.
	h.server.Assign(task(id2))
	h.server.AwaitStatus(id2, "RUNNING")
	if n := len(h.runtime.Calls(fake.OpKill, fake.OpRemove)); n != 0 {
		t.Errorf("a task that only was reported twice is stopped")
	}
}

func TestWhatNobodyOwnsGoesOnceTheAssignmentsAreKnown(t *testing.T) {
	h := newHost(t, nil)
	stop := h.agent()
	h.server.Assign(task(id1))
	h.server.AwaitStatus(id1, "RUNNING")
	stop()
	stranger := runner.ContainerID(id2, "app")
	if _, err := h.runtime.Create(t.Context(), runtime.Spec{ID: stranger}); err != nil {
		t.Fatal(err)
	}
	h.server.Stop()
	lists := len(h.runtime.Calls(fake.OpList))
	h.agent()
	h.await("the agent's first listing", func() bool { return len(h.runtime.Calls(fake.OpList)) > lists })
	if n := len(h.runtime.Calls(fake.OpRemove)); n != 0 {
		t.Error("something is removed while the control plane cannot be asked")
	}
	h.server.Start()
	h.await("the stranger's removal", func() bool { return len(h.containers()) == 1 })
	if got := h.containers()[0]; got != runner.ContainerID(id1, "app") {
		t.Errorf("left is %s", got)
	}
}

func TestTaskThatIsTakenAwayEnds(t *testing.T) {
	h := newHost(t, nil)
	stop := h.agent()
	h.server.Assign(task(id1), task(id2))
	h.server.AwaitStatus(id1, "RUNNING")
	h.server.AwaitStatus(id2, "RUNNING")
	h.server.Remove(id1)
	h.await("the first task's end", func() bool { return len(h.containers()) == 1 })
	stop()
	// The second is taken away while the agent is not there.
	h.server.Remove(id2)
	h.agent()
	h.await("the second task's end", func() bool { return len(h.containers()) == 0 && len(h.network.Tasks()) == 0 })
}

func TestHostOfAnotherClusterSaysSo(t *testing.T) {
	h := newHost(t, nil)
	cfg := h.config()
	id, err := identity(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Cluster = id.Cluster
	if _, err := identity(t.Context(), cfg); err != nil {
		t.Error(err)
	}
	cfg.Cluster = "other"
	if _, err := identity(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), `--cluster is "other", but this host has joined cluster "`+id.Cluster) {
		t.Errorf("another cluster: %v", err)
	}
}

func TestExpiredIdentityJoinsAgain(t *testing.T) {
	h := newHost(t, nil)
	h.server.Life = time.Nanosecond
	cfg := h.config()
	id, err := identity(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.await("the certificate's end", func() bool { return id.Expired(time.Now()) })
	without := cfg
	without.JoinToken = ""
	if _, err := identity(t.Context(), without); err == nil || !strings.Contains(err.Error(), "join again") {
		t.Errorf("without a token: %v", err)
	}
	h.server.Life = time.Hour
	if id, err = identity(t.Context(), cfg); err != nil || id.Expired(time.Now()) {
		t.Errorf("with a token: %v", err)
	}
}

func TestMetrics(t *testing.T) {
	h := newHost(t, nil)
	cfg := h.config()
	n := &node{cfg: cfg, session: session.New(session.Config{}), runner: runner.New(t.Context(), runner.Config{Launches: 3})}
	n.session.Report(&pb.TaskStatusRecord{Task: id1})
	n.connected.Store(true)
	families, err := n.metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetMetric()[0].GetGauge() != nil {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"plimsoll_agent_connected": 1, "plimsoll_agent_tasks": 0, "plimsoll_agent_statuses_pending": 1, "plimsoll_agent_launching_limit": 3,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	n.cfg.MetricsListen = "127.0.0.1:0"
	go func() { ended <- n.serveMetrics(ctx) }()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
