package iam

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"sync"
	"testing"
	"time"
)

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now().Truncate(time.Second)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newAuthority(t testing.TB, now func() time.Time) *Authority {
	t.Helper()
	a, err := NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// request is a certificate request that claims more than it may have.
func request(t testing.TB) ([]byte, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "root"}, DNSNames: []string{ServerName}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

func TestAgentGetsTheIdentityThatTheServerNames(t *testing.T) {
	c := newClock()
	a := newAuthority(t, c.Now)
	csr, key := request(t)
	der, err := a.IssueAgent(csr, "prod", "0a1b")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: c.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: c.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("an agent's certificate serves")
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: c.Now().Add(AgentTTL + time.Second), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("an agent's certificate outlives its time")
	}
	if got, err := OfCertificate(cert); err != nil || got != (Identity{RoleAgent, "prod", "0a1b"}) {
		t.Errorf("identity is %v, %v", got, err)
	}
	if cert.IsCA || len(cert.DNSNames) != 0 || cert.Subject.CommonName != "0a1b" {
		t.Errorf("the request's own names were taken: %v %v", cert.Subject, cert.DNSNames)
	}
	if !key.Public().(*ecdsa.PublicKey).Equal(cert.PublicKey) {
		t.Error("the certificate is for another key")
	}
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	a := newAuthority(t, time.Now)
	csr, _ := request(t)
	unsigned := bytes.Clone(csr)
	unsigned[len(unsigned)-1] ^= 1
	for name, der := range map[string][]byte{"empty": nil, "garbage": []byte("x"), "cut": csr[:len(csr)/2], "not signed by its key": unsigned} {
		if _, err := a.IssueAgent(der, "c", "i"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// handshake connects a client to a server and answers both ends' errors and the
// server's view.
func handshake(t *testing.T, server, client *tls.Config) (seen tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	one, other := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	_ = one.SetDeadline(deadline)
	_ = other.SetDeadline(deadline)
	s := tls.Server(one, server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer one.Close()
		if serverErr = s.Handshake(); serverErr == nil {
			seen = s.ConnectionState()
			_, serverErr = s.Write([]byte("x"))
		}
	}()
	c := tls.Client(other, client)
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	other.Close()
	<-done
	return seen, serverErr, clientErr
}

func TestHandshakes(t *testing.T) {
	a, foreign := newAuthority(t, time.Now), newAuthority(t, time.Now)
	server, err := NewServerCertificate(a, "r1")
	if err != nil {
		t.Fatal(err)
	}
	user := func(a *Authority) tls.Certificate {
		c, err := a.IssueUser("ann", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return *c
	}
	for name, c := range map[string]struct {
		client *tls.Config
		want   string // the identity, "none", or "" if the handshake fails
	}{
		"no certificate":        {&tls.Config{RootCAs: a.Pool(), ServerName: ServerName}, "none"},
		"by localhost":          {&tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}, "none"},
		"by another name":       {&tls.Config{RootCAs: a.Pool(), ServerName: "example.org"}, ""},
		"a user":                {&tls.Config{RootCAs: a.Pool(), ServerName: ServerName, Certificates: []tls.Certificate{user(a)}}, "spiffe://plimsoll/user/ann"},
		"another server":        {server.ClientTLS(), "spiffe://plimsoll/server/r1"},
		"a user of another's":   {&tls.Config{RootCAs: a.Pool(), ServerName: ServerName, Certificates: []tls.Certificate{user(foreign)}}, ""},
		"another authority":     {&tls.Config{RootCAs: foreign.Pool(), ServerName: ServerName}, ""},
		"an old version of TLS": {&tls.Config{RootCAs: a.Pool(), ServerName: ServerName, MaxVersion: tls.VersionTLS12}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			seen, serverErr, clientErr := handshake(t, server.ServerTLS(), c.client)
			id, err := OfConnection(&seen)
			got := id.String()
			switch {
			case serverErr != nil || clientErr != nil:
				got = ""
			case err != nil:
				got = "none"
			}
			if got != c.want {
				t.Errorf("identity is %q, want %q (server: %v, client: %v)", got, c.want, serverErr, clientErr)
			}
		})
	}
}

func TestJoiningHostCanPinTheAuthority(t *testing.T) {
	a := newAuthority(t, time.Now)
	server, err := NewServerCertificate(a, "r1")
	if err != nil {
		t.Fatal(err)
	}
	var chain [][]byte
	_, _, clientErr := handshake(t, server.ServerTLS(), &tls.Config{ServerName: ServerName, InsecureSkipVerify: true,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error { chain = raw; return nil }})
	if clientErr != nil || len(chain) != 2 || !bytes.Equal(chain[1], a.Certificate().Raw) {
		t.Fatalf("chain of %d certificates, %v", len(chain), clientErr)
	}
}

func TestServerCertificateIsIssuedAnewBeforeItEnds(t *testing.T) {
	c := newClock()
	s, err := NewServerCertificate(newAuthority(t, c.Now), "r1")
	if err != nil {
		t.Fatal(err)
	}
	first, _ := s.Get()
	c.advance(ServerTTL/2 - time.Second)
	if same, _ := s.Get(); same != first {
		t.Error("it was issued anew too early")
	}
	c.advance(2 * time.Second)
	second, err := s.Get()
	if err != nil || second == first || !second.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Errorf("it was not issued anew: %v", err)
	}
}

func TestCallersAreKnownInContext(t *testing.T) {
	if id, ok := FromContext(context.Background()); ok {
		t.Errorf("nobody is %v", id)
	}
	want := Identity{Role: RoleUser, Name: "ann"}
	if id, ok := FromContext(NewContext(context.Background(), want)); !ok || id != want {
		t.Errorf("identity is %v, %v", id, ok)
	}
}
