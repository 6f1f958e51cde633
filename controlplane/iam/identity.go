package iam

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Role is what an identity is.
type Role string

// The roles.
const (
	RoleAgent  Role = "agent"
	RoleServer Role = "server"
	RoleUser   Role = "user"
)

// Identity is who a certificate is for.
type Identity struct {
	Role Role
	// Cluster is an agent's.
	Cluster string
	// Name is the container instance's id, the replica's id, or the user's name.
	Name string
}

// ErrNoIdentity says that a connection has no client certificate.
var ErrNoIdentity = errors.New("no client certificate")

const identityPrefix = "spiffe://plimsoll/"

// String is the identity's URI: spiffe://plimsoll/agent/CLUSTER/INSTANCE,
// spiffe://plimsoll/server/REPLICA, or spiffe://plimsoll/user/NAME.
func (i Identity) String() string {
	if i.Role == RoleAgent {
		return identityPrefix + string(i.Role) + "/" + url.PathEscape(i.Cluster) + "/" + url.PathEscape(i.Name)
	}
	return identityPrefix + string(i.Role) + "/" + url.PathEscape(i.Name)
}

// ParseIdentity is the inverse of String.
func ParseIdentity(uri string) (Identity, error) {
	bad := fmt.Errorf("%q is not an identity of this authority", uri)
	rest, ok := strings.CutPrefix(uri, identityPrefix)
	if !ok {
		return Identity{}, bad
	}
	parts := strings.Split(rest, "/")
	for n := range parts {
		part, err := url.PathUnescape(parts[n])
		if err != nil || part == "" {
			return Identity{}, bad
		}
		parts[n] = part
	}
	switch id := (Identity{Role: Role(parts[0]), Name: parts[len(parts)-1]}); {
	case id.Role == RoleAgent && len(parts) == 3:
		id.Cluster = parts[1]
		return id, nil
	case (id.Role == RoleServer || id.Role == RoleUser) && len(parts) == 2:
		return id, nil
	}
	return Identity{}, bad
}

// OfCertificate is the identity that a verified certificate is for.
func OfCertificate(c *x509.Certificate) (Identity, error) {
	if len(c.URIs) != 1 {
		return Identity{}, fmt.Errorf("certificate of %q has %d URIs, want 1", c.Subject.CommonName, len(c.URIs))
	}
	return ParseIdentity(c.URIs[0].String())
}

// OfConnection is the identity of a TLS connection's client, ErrNoIdentity if
// it has none.
func OfConnection(s *tls.ConnectionState) (Identity, error) {
	if s == nil || len(s.VerifiedChains) == 0 {
		return Identity{}, ErrNoIdentity
	}
	return OfCertificate(s.VerifiedChains[0][0])
}

type contextKey struct{}

// FromContext is the caller's identity that the interceptors put there.
func FromContext(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(contextKey{}).(Identity)
	return id, ok
}

// NewContext puts the caller's identity into the context.
func NewContext(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, contextKey{}, id)
}

// ofPeer is the identity of a gRPC call's client.
func ofPeer(ctx context.Context) (Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Identity{}, ErrNoIdentity
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return Identity{}, ErrNoIdentity
	}
	return OfConnection(&info.State)
}
