package iam

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// as is a call's context from a client whose certificate was verified.
func as(t testing.TB, uri string) context.Context {
	t.Helper()
	state := tls.ConnectionState{}
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		state.VerifiedChains = [][]*x509.Certificate{{{URIs: []*url.URL{u}}}}
	}
	return peer.NewContext(context.Background(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
}

func TestWhoMayCallWhat(t *testing.T) {
	const (
		join       = pb.AgentService_Join_FullMethodName
		session    = pb.AgentService_Session_FullMethodName
		renew      = pb.AgentService_RenewCertificate_FullMethodName
		health     = "/grpc.health.v1.Health/Check"
		reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
		runTask    = pb.EcsService_RunTask_FullMethodName
		admin      = pb.AdminService_CreateJoinToken_FullMethodName
		unknown    = "/no.such.Service/Call"
	)
	const nobody, agent, server, user, stranger = "", "spiffe://plimsoll/agent/c/i", "spiffe://plimsoll/server/r", "spiffe://plimsoll/user/u", "spiffe://elsewhere/user/u"
	for _, c := range []struct {
		who     string
		allowed []string
		refused []string
		code    codes.Code
	}{
		{nobody, []string{join, health}, []string{session, renew, runTask, admin, reflection, unknown}, codes.Unauthenticated},
		{stranger, nil, []string{join, health, session, runTask, admin}, codes.Unauthenticated},
		{agent, []string{join, health, session, renew}, []string{runTask, admin, reflection, unknown}, codes.PermissionDenied},
		{user, []string{join, health, runTask, admin, reflection}, []string{session, renew}, codes.PermissionDenied},
		{server, []string{health, runTask, admin, reflection}, []string{session, renew}, codes.PermissionDenied},
	} {
		for _, method := range c.allowed {
			called := false
			_, err := Unary(as(t, c.who), nil, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, _ any) (any, error) {
				called = true
				if id, ok := FromContext(ctx); ok != (c.who != nobody) || ok && id.String() != c.who {
					t.Errorf("%s calls %s as %v", c.who, method, id)
				}
				return nil, nil
			})
			if err != nil || !called {
				t.Errorf("%q may not call %s: %v", c.who, method, err)
			}
		}
		for _, method := range c.refused {
			err := Stream(nil, &identified{ctx: as(t, c.who)}, &grpc.StreamServerInfo{FullMethod: method}, func(any, grpc.ServerStream) error {
				t.Errorf("%q called %s", c.who, method)
				return nil
			})
			if status.Code(err) != c.code {
				t.Errorf("%q calls %s: %v, want %s", c.who, method, err, c.code)
			}
		}
	}
}

func TestStreamsCarryTheIdentity(t *testing.T) {
	err := Stream(nil, &identified{ctx: as(t, "spiffe://plimsoll/agent/c/i")}, &grpc.StreamServerInfo{FullMethod: pb.AgentService_Session_FullMethodName},
		func(_ any, s grpc.ServerStream) error {
			if id, ok := FromContext(s.Context()); !ok || id != (Identity{RoleAgent, "c", "i"}) {
				t.Errorf("identity is %v", id)
			}
			return nil
		})
	if err != nil {
		t.Error(err)
	}
}

func TestConnectionsWithoutTLSAreNobody(t *testing.T) {
	for _, ctx := range []context.Context{context.Background(), peer.NewContext(context.Background(), &peer.Peer{})} {
		if _, err := admit(ctx, pb.EcsService_RunTask_FullMethodName); status.Code(err) != codes.Unauthenticated {
			t.Errorf("error is %v", err)
		}
	}
}
