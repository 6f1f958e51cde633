package iam

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// admit is the caller's identity where it may call the method.
func admit(ctx context.Context, method string) (context.Context, error) {
	id, err := ofPeer(ctx)
	if err != nil && !errors.Is(err, ErrNoIdentity) {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	known := err == nil
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	switch {
	case method == pb.AgentService_Join_FullMethodName, service == "grpc.health.v1.Health":
	case !known:
		return nil, status.Error(codes.Unauthenticated, "no client certificate: plim takes one from PLIMSOLL_CERT and PLIMSOLL_KEY")
	case service == pb.AgentService_ServiceDesc.ServiceName:
		if id.Role != RoleAgent {
			return nil, status.Errorf(codes.PermissionDenied, "%s is no agent", id)
		}
	case id.Role == RoleAgent:
		return nil, status.Errorf(codes.PermissionDenied, "%s is an agent: it may not call %s", id, method)
	}
	if known {
		ctx = NewContext(ctx, id)
	}
	return ctx, nil
}

// Unary admits callers by identity: agents to AgentService, users and servers to
// the rest; joining and health checks need none.
func Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// Stream is Unary for streams.
func Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return handler(srv, &identified{ServerStream: stream, ctx: ctx})
}

type identified struct {
	grpc.ServerStream
	ctx context.Context
}

func (i *identified) Context() context.Context { return i.ctx }
