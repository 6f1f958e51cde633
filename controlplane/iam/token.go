package iam

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Why a join token is not taken.
var (
	ErrTokenMalformed = errors.New("the join token is malformed: it is PLIM1.<id>.<secret>.<authority>")
	ErrTokenUnknown   = errors.New("the join token is unknown: make a new one with `plim join-token create`")
	ErrTokenExpired   = errors.New("the join token has expired: make a new one with `plim join-token create`")
	ErrTokenUsedUp    = errors.New("the join token is used up: make a new one with `plim join-token create`")
	ErrTokenCluster   = errors.New("the join token is for another cluster")
)

const tokenPrefix = "PLIM1"

// Tokens makes and takes join tokens and registry passwords.
type Tokens struct {
	Authority *Authority
	Store     store.Store
}

// JoinToken makes a token with which up to uses hosts join the cluster within
// the time to live. The secret is stored as a hash only.
func (t Tokens) JoinToken(ctx context.Context, cluster string, ttl time.Duration, uses int32) (string, time.Time, error) {
	id, secret := randomHex(8), randomHex(24)
	hash := sha256.Sum256([]byte(secret))
	expires := t.Authority.now().Add(ttl)
	rev, err := t.Store.Commit(ctx, model.Batch{{
		Key: model.Key{Kind: model.KindJoinToken, ID: id},
		Value: &pb.JoinTokenRecord{Id: id, SecretHash: hash[:], Role: "agent", Cluster: cluster,
			ExpiresAt: timestamppb.New(expires), UsesLeft: uses},
	}})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("store the join token: %w", err)
	}
	if _, err := t.Store.After(ctx, rev); err != nil {
		return "", time.Time{}, err
	}
	return strings.Join([]string{tokenPrefix, id, secret, t.Authority.Fingerprint()}, "."), expires, nil
}

// TakeJoinToken checks a token, takes one of its uses, and answers its cluster.
// A cluster that is not empty must be the token's.
func (t Tokens) TakeJoinToken(ctx context.Context, token, cluster string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 4 || parts[0] != tokenPrefix {
		return "", ErrTokenMalformed
	}
	hash := sha256.Sum256([]byte(parts[2]))
	for {
		snap := t.Store.Snapshot()
		row, ok := snap.JoinTokens().Get(parts[1])
		r := row.Value
		switch {
		case !ok || subtle.ConstantTimeCompare(hash[:], r.GetSecretHash()) != 1:
			return "", ErrTokenUnknown
		case !t.Authority.now().Before(r.GetExpiresAt().AsTime()):
			return "", ErrTokenExpired
		case r.GetUsesLeft() <= 0:
			return "", ErrTokenUsedUp
		case cluster != "" && cluster != r.GetCluster():
			return "", fmt.Errorf("%w: %s", ErrTokenCluster, r.GetCluster())
		}
		next := proto.CloneOf(r)
		next.UsesLeft--
		rev, err := t.Store.Commit(ctx, model.Batch{{
			Key: model.Key{Kind: model.KindJoinToken, ID: r.GetId()}, Value: next, If: row.Revision}})
		if errors.Is(err, store.ErrConflict) {
			if _, err := t.Store.After(ctx, snap.Revision+1); err != nil {
				return "", err
			}
			continue
		}
		if err != nil {
			return "", fmt.Errorf("take a use of the join token: %w", err)
		}
		_, err = t.Store.After(ctx, rev)
		return r.GetCluster(), err
	}
}

// RegistryUser is the user of registry passwords.
const RegistryUser = "plim"

// passwordClaims is what a registry password says.
type passwordClaims struct {
	Expires int64 `json:"exp"` // Unix seconds
	Push    bool  `json:"push"`
}

// RegistryPassword makes a password for the image registry. It is signed, not
// stored.
func (t Tokens) RegistryPassword(ttl time.Duration, readOnly bool) (user, password string, expires time.Time, err error) {
	expires = t.Authority.now().Add(ttl)
	body, err := json.Marshal(passwordClaims{Expires: expires.Unix(), Push: !readOnly})
	if err != nil {
		return "", "", time.Time{}, err
	}
	claims := base64.RawURLEncoding.EncodeToString(body)
	return RegistryUser, claims + "." + t.Authority.sign(claims), expires, nil
}

// CheckRegistryPassword says whether the password is in force, and for pushes
// too.
func (t Tokens) CheckRegistryPassword(user, password string) (push, ok bool) {
	body, mac, found := strings.Cut(password, ".")
	if !found || user != RegistryUser || !hmac.Equal([]byte(mac), []byte(t.Authority.sign(body))) {
		return false, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	var c passwordClaims
	if err != nil || json.Unmarshal(raw, &c) != nil || t.Authority.now().Unix() >= c.Expires {
		return false, false
	}
	return c.Push, true
}

func (a *Authority) sign(s string) string {
	m := hmac.New(sha256.New, a.registryKey)
	m.Write([]byte(s))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
