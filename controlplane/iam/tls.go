package iam

import (
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

// ServerCertificate is a replica's certificate that is issued anew before it
// ends. It is safe for concurrent use.
type ServerCertificate struct {
	authority *Authority
	replica   string

	mu   sync.Mutex
	cert *tls.Certificate
}

// NewServerCertificate issues the first certificate.
func NewServerCertificate(a *Authority, replica string) (*ServerCertificate, error) {
	s := &ServerCertificate{authority: a, replica: replica}
	_, err := s.Get()
	return s, err
}

// Get is the certificate in force.
func (s *ServerCertificate) Get() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.authority.now()
	if s.cert != nil && now.Before(s.cert.Leaf.NotAfter.Add(-ServerTTL/2)) {
		return s.cert, nil
	}
	c, err := s.authority.IssueServer(s.replica)
	if err != nil {
		if s.cert != nil && now.Before(s.cert.Leaf.NotAfter) {
			return s.cert, nil
		}
		return nil, fmt.Errorf("issue the server's certificate: %w", err)
	}
	s.cert = c
	return c, nil
}

// ServerTLS is the configuration of a listener: TLS 1.3, client certificates of
// the authority verified if given. Who may call without one is up to what is
// served.
func (s *ServerCertificate) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: s.authority.Pool(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.Get() },
		Time:           func() time.Time { return s.authority.now() },
	}
}

// ClientTLS is the configuration with which the replica calls others.
func (s *ServerCertificate) ClientTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: s.authority.Pool(), ServerName: ServerName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.Get() },
	}
}
