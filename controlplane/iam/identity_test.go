package iam

import (
	"crypto/x509"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestIdentitiesThatAreNone(t *testing.T) {
	for _, uri := range []string{"", "spiffe://plimsoll/", "spiffe://plimsoll/user", "spiffe://plimsoll/user/", "spiffe://plimsoll/agent/i",
		"spiffe://plimsoll/agent/c/i/x", "spiffe://plimsoll/agent//i", "spiffe://plimsoll/user/a/b", "spiffe://plimsoll/root/a", "spiffe://plimsoll.example/user/a", "spiffe://plimsoll/user/%zz"} {
		if id, err := ParseIdentity(uri); err == nil {
			t.Errorf("%q is %v", uri, id)
		}
	}
	if _, err := OfCertificate(&x509.Certificate{}); err == nil {
		t.Error("a certificate with no URI has an identity")
	}
	if _, err := OfConnection(nil); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("error is %v", err)
	}
}

func TestIdentitiesSurviveTheirURI(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(1, 40, -1)
		id := Identity{Role: rapid.SampledFrom([]Role{RoleAgent, RoleServer, RoleUser}).Draw(t, "role"), Name: name.Draw(t, "name")}
		if id.Role == RoleAgent {
			id.Cluster = name.Draw(t, "cluster")
		}
		if got, err := ParseIdentity(id.String()); err != nil || got != id {
			t.Fatalf("%q is %v, %v", id.String(), got, err)
		}
	})
}

func FuzzParseIdentity(f *testing.F) {
	f.Add("spiffe://plimsoll/agent/c/i")
	f.Add("spiffe://plimsoll/user/%2f")
	f.Fuzz(func(t *testing.T, uri string) {
		id, err := ParseIdentity(uri)
		if err != nil {
			return
		}
		if again, err := ParseIdentity(id.String()); err != nil || again != id {
			t.Errorf("%q is %v, and again %v, %v", uri, id, again, err)
		}
	})
}
