package iam

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/store/memory"
)

func TestFirstReplicaMakesTheAuthorityAndOthersTakeIt(t *testing.T) {
	s := memory.New()
	seal := filepath.Join(t.TempDir(), "data", "seal.key")
	first, err := LoadOrCreate(t.Context(), s, seal, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(seal)
	if err != nil || info.Mode() != 0o600 || info.Size() != 32 {
		t.Errorf("the seal key is %v, %v", info, err)
	}
	second, err := LoadOrCreate(t.Context(), s, seal, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if first.Fingerprint() != second.Fingerprint() {
		t.Error("two authorities")
	}
	if _, err := second.IssueServer("r2"); err != nil {
		t.Errorf("the loaded authority does not sign: %v", err)
	}
	if first.sign("x") != second.sign("x") {
		t.Error("passwords of one replica are not the other's")
	}
	other := filepath.Join(t.TempDir(), "seal.key")
	if _, err := LoadOrCreate(t.Context(), s, other, time.Now); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("with no seal key: %v", err)
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("a seal key was made that opens nothing")
	}
	for name, key := range map[string][]byte{"wrong": make([]byte, 32), "short": make([]byte, 5)} {
		if err := os.WriteFile(other, key, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreate(t.Context(), s, other, time.Now); err == nil || name == "wrong" && !errors.Is(err, ErrWrongSealKey) {
			t.Errorf("with a %s seal key: %v", name, err)
		}
	}
}

func TestReplicasThatStartAtOnceShareOneAuthority(t *testing.T) {
	s := memory.New()
	seal := filepath.Join(t.TempDir(), "seal.key")
	if err := os.WriteFile(seal, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	prints := map[string]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			a, err := LoadOrCreate(t.Context(), s, seal, time.Now)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			prints[a.Fingerprint()] = true
		})
	}
	wg.Wait()
	if len(prints) != 1 {
		t.Errorf("%d authorities", len(prints))
	}
}

func TestAdministratorsCredentialsConnect(t *testing.T) {
	a := newAuthority(t, time.Now)
	server, err := NewServerCertificate(a, "r1")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "admin")
	for range 2 { // at each start
		if err := a.WriteAdmin(dir); err != nil {
			t.Fatal(err)
		}
	}
	key, err := os.Stat(filepath.Join(dir, "admin.key"))
	if err != nil || key.Mode() != 0o600 {
		t.Errorf("admin.key is %v, %v", key, err)
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "admin.crt"), filepath.Join(dir, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	seen, serverErr, clientErr := handshake(t, server.ServerTLS(), &tls.Config{RootCAs: pool, ServerName: ServerName, Certificates: []tls.Certificate{cert}})
	if id, err := OfConnection(&seen); err != nil || id != (Identity{Role: RoleUser, Name: "admin"}) {
		t.Errorf("identity is %v, %v (%v, %v)", id, err, serverErr, clientErr)
	}
}
