package iam

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/store/memory"
)

func TestJoinTokens(t *testing.T) {
	c := newClock()
	k := Tokens{Authority: newAuthority(t, c.Now), Store: memory.New()}
	issue := func(ttl time.Duration, uses int32) string {
		token, expires, err := k.JoinToken(t.Context(), "prod", ttl, uses)
		if err != nil || !expires.Equal(c.Now().Add(ttl)) {
			t.Fatal(expires, err)
		}
		return token
	}
	token := issue(time.Hour, 2)
	parts := strings.Split(token, ".")
	if len(parts) != 4 || parts[0] != "PLIM1" || parts[3] != k.Authority.Fingerprint() {
		t.Fatalf("token is %q", token)
	}
	usedUp, expired := issue(2*time.Hour, 1), issue(time.Minute, 1)
	if _, err := k.TakeJoinToken(t.Context(), usedUp, ""); err != nil {
		t.Fatal(err)
	}
	c.advance(time.Minute)
	for name, bad := range map[string]struct {
		token, cluster string
		want           error
	}{
		"empty":           {"", "", ErrTokenMalformed},
		"another version": {"PLIM2" + token[5:], "", ErrTokenMalformed},
		"cut":             {strings.Join(parts[:3], "."), "", ErrTokenMalformed},
		"wrong secret":    {strings.Replace(token, parts[2], strings.Repeat("0", 48), 1), "", ErrTokenUnknown},
		"no secret":       {strings.Replace(token, parts[2], "", 1), "", ErrTokenUnknown},
		"unknown id":      {strings.Replace(token, parts[1], "0000", 1), "", ErrTokenUnknown},
		"another cluster": {token, "test", ErrTokenCluster},
		"expired":         {expired, "", ErrTokenExpired},
		"used up":         {usedUp, "", ErrTokenUsedUp},
	} {
		if _, err := k.TakeJoinToken(t.Context(), bad.token, bad.cluster); !errors.Is(err, bad.want) {
			t.Errorf("%s: %v, want %v", name, err, bad.want)
		}
	}
	for _, cluster := range []string{"prod", ""} { // The refusals took no use.
		if got, err := k.TakeJoinToken(t.Context(), token, cluster); err != nil || got != "prod" {
			t.Errorf("cluster is %q, %v", got, err)
		}
	}
	if _, err := k.TakeJoinToken(t.Context(), token, ""); !errors.Is(err, ErrTokenUsedUp) {
		t.Errorf("a third use: %v", err)
	}
}

func TestSecretsAreNotStored(t *testing.T) {
	s := memory.New()
	k := Tokens{Authority: newAuthority(t, time.Now), Store: s}
	token, _, err := k.JoinToken(t.Context(), "c", time.Hour, 1)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Split(token, ".")[2]
	for id, row := range s.Snapshot().JoinTokens().All() {
		if strings.Contains(id+row.Value.String(), secret) || len(row.Value.GetSecretHash()) != 32 {
			t.Errorf("the record is %v", row.Value)
		}
	}
}

func TestJoinTokenIsTakenExactlyAsOftenAsAllowed(t *testing.T) {
	k := Tokens{Authority: newAuthority(t, time.Now), Store: memory.New()}
	const uses = 5
	token, _, err := k.JoinToken(t.Context(), "c", time.Hour, uses)
	if err != nil {
		t.Fatal(err)
	}
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 4 * uses {
		wg.Go(func() {
			switch _, err := k.TakeJoinToken(t.Context(), token, ""); {
			case err == nil:
				taken.Add(1)
			case !errors.Is(err, ErrTokenUsedUp):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if taken.Load() != uses {
		t.Errorf("taken %d times, want %d", taken.Load(), uses)
	}
}

func TestRegistryPasswords(t *testing.T) {
	c := newClock()
	k := Tokens{Authority: newAuthority(t, c.Now)}
	user, push, expires, err := k.RegistryPassword(time.Hour, false)
	if err != nil || !expires.Equal(c.Now().Add(time.Hour)) {
		t.Fatal(expires, err)
	}
	_, pull, _, err := k.RegistryPassword(time.Hour, true)
	if err != nil {
		t.Fatal(err)
	}
	claims, _, _ := strings.Cut(push, ".")
	_, mac, _ := strings.Cut(pull, ".")
	foreign := Tokens{Authority: newAuthority(t, c.Now)}
	_, other, _, _ := foreign.RegistryPassword(time.Hour, false)
	check := func(name, user, password string, push, ok bool) {
		t.Helper()
		if p, o := k.CheckRegistryPassword(user, password); p != push || o != ok {
			t.Errorf("%s: push %v, ok %v", name, p, o)
		}
	}
	check("push", user, push, true, true)
	check("pull", user, pull, false, true)
	check("another user", "root", push, false, false)
	check("empty", user, "", false, false)
	check("claims with another's signature", user, claims+"."+mac, false, false)
	check("unsigned", user, claims+".", false, false)
	check("another authority's", user, other, false, false)
	c.advance(time.Hour)
	check("expired", user, push, false, false)
}

func FuzzCheckRegistryPassword(f *testing.F) {
	k := Tokens{Authority: newAuthority(f, time.Now)}
	_, good, _, err := k.RegistryPassword(time.Hour, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[1:])
	f.Add("e30.x")
	f.Fuzz(func(t *testing.T, password string) {
		if _, ok := k.CheckRegistryPassword(RegistryUser, password); ok && password != good {
			t.Errorf("%q was taken", password)
		}
	})
}
