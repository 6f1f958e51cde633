package api

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Tokens makes join tokens and registry passwords.
type Tokens interface {
	// JoinToken makes a token for hosts of the cluster.
	JoinToken(ctx context.Context, cluster string, ttl time.Duration, uses int32) (token string, expires time.Time, err error)
	// RegistryPassword makes a user and password for the image registry.
	RegistryPassword(ttl time.Duration, readOnly bool) (user, password string, expires time.Time, err error)
}

// LogSource reads a container's output from its host.
type LogSource interface {
	// Logs calls send with each piece until the output ends. local is false when
	// another replica holds the host's session: then nothing was sent.
	Logs(ctx context.Context, cluster, instance string, r *pb.LogsTunnel, send func([]byte) error) (local bool, err error)
}

// Peers reaches other replicas.
type Peers interface {
	// Logs asks the replica for the same logs.
	Logs(ctx context.Context, replica string, r *pb.GetTaskLogsRequest) (pb.AdminService_GetTaskLogsClient, error)
}

// AdminConfig is what an Admin needs.
type AdminConfig struct {
	Store  store.Store
	Tokens Tokens
	Logs   LogSource
	Peers  Peers
	// Info answers GetInfo.
	Info func() *pb.GetInfoResponse
}

// Admin implements AdminService.
type Admin struct {
	pb.UnimplementedAdminServiceServer
	cfg AdminConfig
}

// NewAdmin makes an Admin.
func NewAdmin(cfg AdminConfig) *Admin { return &Admin{cfg: cfg} }

// The bounds of what tokens and passwords may be good for.
const (
	maxTokenTTL    = 24 * time.Hour
	maxPasswordTTL = 24 * time.Hour
)

// CreateJoinToken makes a join token.
func (a *Admin) CreateJoinToken(ctx context.Context, r *pb.CreateJoinTokenRequest) (*pb.CreateJoinTokenResponse, error) {
	if r.GetRole() != "agent" && r.GetRole() != "" {
		return nil, status.Errorf(codes.InvalidArgument, "role is %q: it must be agent", r.GetRole())
	}
	cluster := shortName(r.GetCluster())
	if _, ok := a.cfg.Store.Snapshot().Clusters().Get(cluster); !ok {
		return nil, status.Errorf(codes.NotFound, "cluster %q does not exist: create it first", cluster)
	}
	ttl, err := seconds("ttl_seconds", r.GetTtlSeconds(), 15*time.Minute, maxTokenTTL)
	if err != nil {
		return nil, err
	}
	if r.GetUses() < 0 {
		return nil, status.Errorf(codes.InvalidArgument, "uses is %d: it must be above 0", r.GetUses())
	}
	token, expires, err := a.cfg.Tokens.JoinToken(ctx, cluster, ttl, max(1, r.GetUses()))
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "create a join token: %v", err)
	}
	return &pb.CreateJoinTokenResponse{Token: token, ExpiresAt: timestamppb.New(expires)}, nil
}

// CreateRegistryPassword makes a password for the image registry.
func (a *Admin) CreateRegistryPassword(_ context.Context, r *pb.CreateRegistryPasswordRequest) (*pb.CreateRegistryPasswordResponse, error) {
	ttl, err := seconds("ttl_seconds", r.GetTtlSeconds(), 12*time.Hour, maxPasswordTTL)
	if err != nil {
		return nil, err
	}
	user, password, expires, err := a.cfg.Tokens.RegistryPassword(ttl, r.GetReadOnly())
	if err != nil {
		return nil, status.Errorf(codes.Internal, "create a registry password: %v", err)
	}
	return &pb.CreateRegistryPasswordResponse{
		Username: user, Password: password, ExpiresAt: timestamppb.New(expires),
		Endpoint: a.cfg.Info().GetRegistryEndpoint(),
	}, nil
}

// GetInfo says what this control plane is.
func (a *Admin) GetInfo(context.Context, *pb.GetInfoRequest) (*pb.GetInfoResponse, error) {
	return a.cfg.Info(), nil
}

// GetTaskLogs streams a container's output from its host.
func (a *Admin) GetTaskLogs(r *pb.GetTaskLogsRequest, stream pb.AdminService_GetTaskLogsServer) error {
	snap := a.cfg.Store.Snapshot()
	cluster := shortName(r.GetCluster())
	task, ok := snap.Task(cluster, lastPart(r.GetTask()))
	if !ok {
		return status.Errorf(codes.NotFound, "task %q does not exist in cluster %q", r.GetTask(), cluster)
	}
	if task.Record.GetInstance() == "" {
		return status.Errorf(codes.FailedPrecondition, "task %q has no host yet, so it has no output", r.GetTask())
	}
	if err := checkContainer(snap, task, r.GetContainer()); err != nil {
		return err
	}
	ctx := stream.Context()
	local, err := a.cfg.Logs.Logs(ctx, cluster, task.Record.GetInstance(), &pb.LogsTunnel{
		TaskId: task.Record.GetId(), Container: r.GetContainer(), Follow: r.GetFollow(), Tail: r.GetTail(),
	}, func(data []byte) error { return stream.Send(&pb.GetTaskLogsResponse{Data: data}) })
	if local {
		return err
	}
	instance, ok := snap.Instance(cluster, task.Record.GetInstance())
	if !ok || !snap.Connected(instance) {
		return status.Errorf(codes.Unavailable, "container instance %s of the task is not connected, and the output is kept there", task.Record.GetInstance())
	}
	return a.forward(ctx, instance.Session.GetReplica(), r, stream)
}

func (a *Admin) forward(ctx context.Context, replica string, r *pb.GetTaskLogsRequest, stream pb.AdminService_GetTaskLogsServer) error {
	from, err := a.cfg.Peers.Logs(ctx, replica, r)
	if err != nil {
		return err
	}
	for {
		m, err := from.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// checkContainer wants a container's name where the task has several, and one
// that the task has.
func checkContainer(snap *model.Snapshot, task *model.Task, name string) error {
	var names []string
	for _, c := range snap.DefinitionOf(task.Record.GetTask().GetTaskDefinitionArn()).GetTaskDefinition().GetContainerDefinitions() {
		if c.GetName() == name {
			return nil
		}
		names = append(names, c.GetName())
	}
	switch {
	case name != "":
		return status.Errorf(codes.InvalidArgument, "the task has no container %q: it has %q", name, names)
	case len(names) > 1:
		return status.Errorf(codes.InvalidArgument, "the task has several containers, name one of %q", names)
	}
	return nil
}

func seconds(member string, v int32, otherwise, most time.Duration) (time.Duration, error) {
	d := time.Duration(v) * time.Second
	switch {
	case v == 0:
		return otherwise, nil
	case v < 0 || d > most:
		return 0, status.Errorf(codes.InvalidArgument, "%s is %d: it must be from 1 to %d", member, v, int(most/time.Second))
	}
	return d, nil
}

// shortName is a cluster's name from its name or ARN, "default" if empty.
func shortName(cluster string) string {
	if cluster == "" {
		return "default"
	}
	return lastPart(cluster)
}

func lastPart(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return s[i+1:]
		}
	}
	return s
}
