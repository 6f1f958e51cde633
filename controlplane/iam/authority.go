package iam

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"
)

// ServerName is in every server certificate; clients expect it whatever the
// server's address is.
const ServerName = "plimsoll"

// How long certificates live.
const (
	authorityTTL = 10 * 365 * 24 * time.Hour
	// AgentTTL is a node certificate's life; agents renew it at two thirds.
	AgentTTL = 24 * time.Hour
	// ServerTTL is a server certificate's life; it is issued anew at half.
	ServerTTL = 30 * 24 * time.Hour
	// skew is how far another machine's clock may be behind.
	skew = 5 * time.Minute
)

// Authority issues certificates and signs registry passwords. It is safe for
// concurrent use.
type Authority struct {
	cert        *x509.Certificate
	key         crypto.Signer
	registryKey []byte
	now         func() time.Time
}

// NewAuthority makes an authority with a new key.
func NewAuthority(now func() time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate the authority's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Plimsoll authority"},
		NotBefore: now().Add(-skew), NotAfter: now().Add(authorityTTL),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the authority's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	registryKey := make([]byte, 32)
	_, _ = rand.Read(registryKey) // never fails
	return &Authority{cert: cert, key: key, registryKey: registryKey, now: now}, nil
}

// Certificate is the authority's own certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Fingerprint is the hexadecimal SHA-256 of the authority's certificate: what a
// join token pins.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Pool has the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// IssueAgent issues a node certificate for the request's key (PKCS #10, DER).
// The request's own subject and names are ignored. It answers DER, and fails on
// a request that is malformed or not signed by its key.
func (a *Authority) IssueAgent(request []byte, cluster, instance string) ([]byte, error) {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, fmt.Errorf("certificate_request is not PKCS #10: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate_request is not signed by its own key: %w", err)
	}
	id := Identity{Role: RoleAgent, Cluster: cluster, Name: instance}
	return a.issue(id, csr.PublicKey, AgentTTL, x509.ExtKeyUsageClientAuth)
}

// IssueServer makes a key and a certificate for a replica, with the authority
// behind it in the chain so that a joining host can pin it.
func (a *Authority) IssueServer(replica string) (*tls.Certificate, error) {
	return a.keyPair(Identity{Role: RoleServer, Name: replica}, ServerTTL, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
}

// IssueUser makes a key and a client certificate for a person or program.
func (a *Authority) IssueUser(name string, ttl time.Duration) (*tls.Certificate, error) {
	return a.keyPair(Identity{Role: RoleUser, Name: name}, ttl, x509.ExtKeyUsageClientAuth)
}

func (a *Authority) keyPair(id Identity, ttl time.Duration, usage ...x509.ExtKeyUsage) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a key for %s: %w", id, err)
	}
	der, err := a.issue(id, key.Public(), ttl, usage...)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func (a *Authority) issue(id Identity, public any, ttl time.Duration, usage ...x509.ExtKeyUsage) ([]byte, error) {
	uri, err := url.Parse(id.String())
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", id, err)
	}
	notAfter := a.now().Add(ttl)
	if notAfter.After(a.cert.NotAfter) {
		notAfter = a.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: id.Name},
		NotBefore: a.now().Add(-skew), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage, URIs: []*url.URL{uri},
	}
	if id.Role == RoleServer {
		// The registry's clients know loopback by these names.
		template.DNSNames = []string{ServerName, "localhost"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", id, err)
	}
	return der, nil
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return n
}
