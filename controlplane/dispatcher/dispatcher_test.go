package dispatcher

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store/memory"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// byMetadata takes the host's id from the call's metadata: the tests' stand-in
// for TLS identities.
type byMetadata struct{}

func (byMetadata) Join(_ context.Context, token, _, _ string, _ []byte) (Certificate, error) {
	if token != "good" {
		return Certificate{}, status.Error(codes.Unauthenticated, "unknown token")
	}
	return Certificate{Cluster: "default", Certificate: []byte("cert")}, nil
}

func (byMetadata) Renew(Host, []byte) (Certificate, error) { return Certificate{}, nil }

func (byMetadata) Host(ctx context.Context) (Host, bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("x-instance"); len(v) == 1 {
		return Host{Cluster: "default", Instance: v[0]}, true
	}
	return Host{}, false
}

type rig struct {
	t      *testing.T
	store  *memory.Store
	d      *Dispatcher
	client pb.AgentServiceClient
	ctx    context.Context
}

func newRig(t *testing.T) *rig {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	s := memory.New()
	d := New(Config{
		Store: s, Authority: byMetadata{}, Replica: "r1", AccountID: "123456789012", Region: "us-east-1",
		Now: time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	l := bufconn.Listen(1 << 20)
	g := grpc.NewServer()
	pb.RegisterAgentServiceServer(g, d)
	go func() { _ = g.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(); g.Stop(); conn.Close() })
	r := &rig{t: t, store: s, d: d, client: pb.NewAgentServiceClient(conn), ctx: ctx}
	r.put(model.KindCluster, "", "default", &pb.ClusterRecord{Cluster: &pb.Cluster{ClusterName: "default"}})
	r.put(model.KindReplica, "", "r1", &pb.ReplicaRecord{Id: "r1"})
	r.put(model.KindDefinition, "", "web:1", &pb.TaskDefinitionRecord{TaskDefinition: &pb.TaskDefinition{Family: "web", Revision: 1}})
	return r
}

func (r *rig) put(kind model.Kind, cluster, id string, v proto.Message) {
	r.t.Helper()
	rev, err := r.store.Commit(r.ctx, model.Batch{{Key: model.Key{Kind: kind, Cluster: cluster, ID: id}, Value: v, If: model.AnyRevision}})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.store.After(r.ctx, rev); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) task(id, instance, desired string) {
	r.put(model.KindTask, "default", id, &pb.TaskRecord{Cluster: "default", Id: id, Instance: instance, Task: &pb.Task{
		TaskArn: "arn:task/" + id, DesiredStatus: desired, TaskDefinitionArn: "arn:aws:ecs:us-east-1:123456789012:task-definition/web:1"}})
}

func (r *rig) open(instance string) pb.AgentService_SessionClient {
	r.t.Helper()
	s, err := r.client.Session(metadata.AppendToOutgoingContext(r.ctx, "x-instance", instance))
	if err != nil {
		r.t.Fatal(err)
	}
	r.send(s, &pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: hello()}})
	if w := r.recv(s).GetWelcome(); w == nil || w.GetContainerInstanceArn() != "arn:aws:ecs:us-east-1:123456789012:container-instance/default/"+instance {
		r.t.Fatalf("welcome is %v", w)
	}
	return s
}

func hello() *pb.Hello {
	return &pb.Hello{Hostname: "h", Resources: []*pb.Resource{
		{Name: "CPU", Type: "INTEGER", IntegerValue: 1024}, {Name: "MEMORY", Type: "INTEGER", IntegerValue: 512}}}
}

func (r *rig) send(s pb.AgentService_SessionClient, m *pb.SessionRequest) {
	r.t.Helper()
	if err := s.Send(m); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) recv(s pb.AgentService_SessionClient) *pb.SessionResponse {
	r.t.Helper()
	m, err := s.Recv()
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (r *rig) report(s pb.AgentService_SessionClient, seq int64, statuses ...*pb.TaskStatusRecord) *pb.StatusAck {
	r.t.Helper()
	r.send(s, &pb.SessionRequest{Message: &pb.SessionRequest_Statuses{Statuses: &pb.StatusBatch{Sequence: seq, Statuses: statuses}}})
	for {
		if ack := r.recv(s).GetAck(); ack != nil {
			return ack
		}
	}
}

func ids(a *pb.Assignments) (out []string) {
	for _, u := range a.GetUpdates() {
		out = append(out, u.GetTaskId()+" "+u.GetTask().GetDesiredStatus())
	}
	return out
}

func TestAssignmentsAreCompleteThenIncremental(t *testing.T) {
	r := newRig(t)
	r.task("t1", "i1", "RUNNING")
	r.task("other", "i2", "RUNNING")
	s := r.open("i1")
	first := r.recv(s).GetAssignments()
	if first.GetType() != pb.Assignments_TYPE_COMPLETE || !cmp.Equal(ids(first), []string{"t1 RUNNING"}) {
		t.Fatalf("first set is %v", first)
	}
	if first.GetUpdates()[0].GetTaskDefinition().GetFamily() != "web" {
		t.Error("the assignment has no task definition")
	}
	r.task("t2", "i1", "RUNNING")
	second := r.recv(s).GetAssignments()
	if second.GetType() != pb.Assignments_TYPE_INCREMENTAL || second.GetBaseRevision() != first.GetRevision() || !cmp.Equal(ids(second), []string{"t2 RUNNING"}) {
		t.Fatalf("second set is %v", second)
	}
	r.task("t1", "i1", "STOPPED")
	if third := r.recv(s).GetAssignments(); !cmp.Equal(ids(third), []string{"t1 STOPPED"}) {
		t.Fatalf("third set is %v", third)
	}
	r.report(s, 1, &pb.TaskStatusRecord{Task: "t1", LastStatus: "STOPPED", Version: 1})
	if fourth := r.recv(s).GetAssignments(); !cmp.Equal(fourth.GetRemoves(), []string{"t1"}) {
		t.Fatalf("fourth set is %v", fourth)
	}
}

func TestStatusesOnlyOfOwnTasksAndOnlyForward(t *testing.T) {
	r := newRig(t)
	r.task("mine", "i1", "RUNNING")
	r.task("other", "i2", "RUNNING")
	s := r.open("i1")
	for i, c := range []struct {
		name     string
		report   *pb.TaskStatusRecord
		accepted bool
	}{
		{"running", &pb.TaskStatusRecord{Task: "mine", LastStatus: "RUNNING", Version: 2}, true},
		{"backward", &pb.TaskStatusRecord{Task: "mine", LastStatus: "PENDING", Version: 3}, false},
		{"older", &pb.TaskStatusRecord{Task: "mine", LastStatus: "RUNNING", Version: 1}, false},
		{"unknown status", &pb.TaskStatusRecord{Task: "mine", LastStatus: "GONE", Version: 4}, false},
		{"another host's", &pb.TaskStatusRecord{Task: "other", LastStatus: "STOPPED", Version: 1}, false},
		{"no such task", &pb.TaskStatusRecord{Task: "none", LastStatus: "STOPPED", Version: 1}, false},
		{"same status, newer", &pb.TaskStatusRecord{Task: "mine", LastStatus: "RUNNING", Version: 5, StoppedReason: "x"}, true},
		{"stopped", &pb.TaskStatusRecord{Task: "mine", LastStatus: "STOPPED", Version: 6}, true},
		{"after stopped", &pb.TaskStatusRecord{Task: "mine", LastStatus: "STOPPED", Version: 7}, false},
	} {
		ack := r.report(s, int64(i+1), c.report)
		if ack.GetSequence() != int64(i+1) || (len(ack.GetRejected()) == 0) != c.accepted {
			t.Errorf("%s: ack is %v, want accepted %v", c.name, ack, c.accepted)
		}
	}
	if got, _ := r.store.Snapshot().Task("default", "other"); got.Status != nil {
		t.Error("another host's task has a status")
	}
}

func TestHostTellsOfItsRuntime(t *testing.T) {
	r := newRig(t)
	r.task("t1", "i1", "RUNNING")
	s := r.open("i1")
	instance := func() *model.Instance {
		i, _ := r.store.Snapshot().Instance("default", "i1")
		return i
	}
	if i := instance(); i.Impaired() || i.Record.GetInstance().GetHealthStatus().GetOverallStatus() != pb.InstanceHealthCheckState_INSTANCE_HEALTH_CHECK_STATE_OK {
		t.Errorf("at first: %v", i.Record)
	}
	beat := func(reason string) {
		t.Helper()
		r.send(s, &pb.SessionRequest{Message: &pb.SessionRequest_Heartbeat{Heartbeat: &pb.Heartbeat{RuntimeError: reason}}})
		for range 1000 {
			d := instance().Record.GetInstance().GetHealthStatus().GetDetails()
			if len(d) == 1 && d[0].GetStatusReason() == reason {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatalf("the record is %v", instance().Record)
	}
	beat("connection refused")
	if !instance().Impaired() {
		t.Error("a host without a runtime is not impaired")
	}
	// What it reports is taken as before.
	if ack := r.report(s, 1, &pb.TaskStatusRecord{Task: "t1", LastStatus: "RUNNING", Version: 1}); len(ack.GetRejected()) != 0 {
		t.Errorf("ack is %v", ack)
	}
	before := instance().RecordRevision
	beat("connection refused")
	if instance().RecordRevision != before {
		t.Error("what is no news was written")
	}
	beat("")
	if instance().Impaired() {
		t.Error("it is still impaired")
	}
}

func TestLostTaskIsRemovedFromReturningHost(t *testing.T) {
	r := newRig(t)
	r.task("t1", "i1", "RUNNING")
	r.put(model.KindTask, "default", "lost", &pb.TaskRecord{Cluster: "default", Id: "lost", Instance: "i1",
		Task: &pb.Task{DesiredStatus: "STOPPED"}, StoppedAt: timestamppb.Now()})
	if got := ids(r.recv(r.open("i1")).GetAssignments()); !cmp.Equal(got, []string{"t1 RUNNING"}) {
		t.Errorf("assignments are %v", got)
	}
}

func TestNewerSessionFencesTheOlder(t *testing.T) {
	r := newRig(t)
	old := r.open("i1")
	r.recv(old)
	r.open("i1")
	_, err := old.Recv()
	if status.Code(err) != codes.Aborted {
		t.Errorf("the older session ended with %v, want Aborted", err)
	}
	i, _ := r.store.Snapshot().Instance("default", "i1")
	if !r.store.Snapshot().Connected(i) || i.Session.GetEpoch() != 2 {
		t.Errorf("session record is %v", i.Session)
	}
}

func TestSessionEndIsStored(t *testing.T) {
	r := newRig(t)
	wake, cancel := r.store.Subscribe()
	defer cancel()
	s := r.open("i1")
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		if i, ok := r.store.Snapshot().Instance("default", "i1"); ok && !i.Session.GetConnected() {
			return
		}
		select {
		case <-wake:
		case <-r.ctx.Done():
			t.Fatal("the session's end was not stored")
		}
	}
}

func TestSessionIsRefused(t *testing.T) {
	r := newRig(t)
	r.put(model.KindInstance, "default", "gone", &pb.ContainerInstanceRecord{Cluster: "default", Id: "gone"})
	r.put(model.KindInstanceState, "default", "gone", &pb.ContainerInstanceStateRecord{Cluster: "default", Instance: "gone", Status: model.InstanceInactive})
	for _, c := range []struct {
		name, host string
		first      *pb.SessionRequest
		want       codes.Code
	}{
		{"no identity", "", &pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: hello()}}, codes.PermissionDenied},
		{"no hello", "i1", &pb.SessionRequest{Message: &pb.SessionRequest_Heartbeat{}}, codes.InvalidArgument},
		{"no resources", "i1", &pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: &pb.Hello{Hostname: "h"}}}, codes.InvalidArgument},
		{"deregistered", "gone", &pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: hello()}}, codes.FailedPrecondition},
	} {
		ctx := r.ctx
		if c.host != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-instance", c.host)
		}
		s, err := r.client.Session(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Send(c.first)
		if _, err = s.Recv(); status.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestLogsThroughTunnel(t *testing.T) {
	r := newRig(t)
	s := r.open("i1")
	r.recv(s)
	go func() {
		open := func() *pb.OpenTunnel {
			for {
				m, err := s.Recv()
				if err != nil {
					return nil
				}
				if o := m.GetOpenTunnel(); o != nil {
					return o
				}
			}
		}()
		tunnel, err := r.client.Tunnel(metadata.AppendToOutgoingContext(r.ctx, "x-instance", "i1"))
		if err != nil || open.GetLogs().GetTaskId() != "t1" {
			return
		}
		_ = tunnel.Send(&pb.TunnelRequest{TunnelId: open.GetTunnelId()})
		_ = tunnel.Send(&pb.TunnelRequest{Data: []byte("one\n")})
		_ = tunnel.Send(&pb.TunnelRequest{Data: []byte("two\n")})
		_ = tunnel.Send(&pb.TunnelRequest{Last: true})
	}()
	var got string
	local, err := r.d.Logs(r.ctx, "default", "i1", &pb.LogsTunnel{TaskId: "t1"}, func(b []byte) error { got += string(b); return nil })
	if !local || err != nil || got != "one\ntwo\n" {
		t.Errorf("logs: %q, local %v, %v", got, local, err)
	}
	if local, err := r.d.Logs(r.ctx, "default", "away", &pb.LogsTunnel{}, nil); local || err != nil {
		t.Errorf("logs of a host that is not here: local %v, %v", local, err)
	}
}

func TestTunnelOfAnotherHostIsRefused(t *testing.T) {
	r := newRig(t)
	s := r.open("i1")
	r.recv(s)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(r.ctx)
	go func() {
		_, err := r.d.OpenTunnel(ctx, Host{"default", "i1"}, &pb.OpenTunnel{Request: &pb.OpenTunnel_Logs{Logs: &pb.LogsTunnel{}}})
		done <- err
	}()
	open := r.recv(s).GetOpenTunnel()
	tunnel, err := r.client.Tunnel(metadata.AppendToOutgoingContext(r.ctx, "x-instance", "i2"))
	if err != nil {
		t.Fatal(err)
	}
	_ = tunnel.Send(&pb.TunnelRequest{TunnelId: open.GetTunnelId()})
	if _, err := tunnel.Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("another host's tunnel: %v, want NotFound", err)
	}
	cancel()
	if err := <-done; err == nil || errors.Is(err, ErrNoSession) {
		t.Errorf("OpenTunnel answered %v", err)
	}
}

func TestJoin(t *testing.T) {
	r := newRig(t)
	j, err := r.client.Join(r.ctx, &pb.JoinRequest{Token: "good"})
	if err != nil || len(j.GetInstance()) != 32 || j.GetCluster() != "default" {
		t.Errorf("join: %v, %v", j, err)
	}
	if _, err := r.client.Join(r.ctx, &pb.JoinRequest{Token: "bad"}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("bad token: %v", err)
	}
}
