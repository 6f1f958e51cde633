package server

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/plimsoll-project/plimsoll/controlplane/dispatcher"
	"github.com/plimsoll-project/plimsoll/controlplane/iam"
)

// authority lets the dispatcher admit hosts by iam's rules.
type authority struct{ tokens iam.Tokens }

// Join admits a host with a join token.
func (a authority) Join(ctx context.Context, token, cluster, instance string, request []byte) (dispatcher.Certificate, error) {
	// The request is checked before the token, so that a bad one takes no use.
	if _, err := a.tokens.Authority.IssueAgent(request, "check", instance); err != nil {
		return dispatcher.Certificate{}, status.Error(codes.InvalidArgument, err.Error())
	}
	cluster, err := a.tokens.TakeJoinToken(ctx, token, cluster)
	switch {
	case errors.Is(err, iam.ErrTokenMalformed), errors.Is(err, iam.ErrTokenUnknown), errors.Is(err, iam.ErrTokenExpired),
		errors.Is(err, iam.ErrTokenUsedUp), errors.Is(err, iam.ErrTokenCluster):
		return dispatcher.Certificate{}, status.Error(codes.Unauthenticated, err.Error())
	case err != nil:
		return dispatcher.Certificate{}, status.Error(codes.Unavailable, err.Error())
	}
	return a.Renew(dispatcher.Host{Cluster: cluster, Instance: instance}, request)
}

// Renew issues a host's next certificate.
func (a authority) Renew(h dispatcher.Host, request []byte) (dispatcher.Certificate, error) {
	der, err := a.tokens.Authority.IssueAgent(request, h.Cluster, h.Instance)
	if err != nil {
		return dispatcher.Certificate{}, status.Error(codes.InvalidArgument, err.Error())
	}
	return dispatcher.Certificate{Certificate: der, Authorities: [][]byte{a.tokens.Authority.Certificate().Raw}, Cluster: h.Cluster}, nil
}

// Host is the calling host.
func (a authority) Host(ctx context.Context) (dispatcher.Host, bool) {
	id, ok := iam.FromContext(ctx)
	return dispatcher.Host{Cluster: id.Cluster, Instance: id.Name}, ok && id.Role == iam.RoleAgent
}
