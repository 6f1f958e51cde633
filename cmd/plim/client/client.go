package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// ServerName is the name in every server certificate, whatever the address.
const ServerName = "plimsoll"

// The environment that says where the control plane is and who asks.
const (
	EnvAddress = "PLIMSOLL_ADDRESS"
	EnvCA      = "PLIMSOLL_CA"
	EnvCert    = "PLIMSOLL_CERT"
	EnvKey     = "PLIMSOLL_KEY"
	EnvCluster = "PLIMSOLL_CLUSTER"
)

// ErrNotConfigured is answered when it is not known where the control plane is.
var ErrNotConfigured = errors.New("the control plane's address is not set")

// Config is where a control plane is and with which identity to call it.
type Config struct {
	// Address is host:port of the gRPC API.
	Address string
	// CA, Cert and Key are PEM files: the control plane's authority and the
	// caller's certificate with its key.
	CA, Cert, Key string
}

// Or fills what c leaves empty from the environment.
func (c Config) Or(getenv func(string) string) Config {
	for _, f := range []struct {
		member *string
		env    string
	}{{&c.Address, EnvAddress}, {&c.CA, EnvCA}, {&c.Cert, EnvCert}, {&c.Key, EnvKey}} {
		if *f.member == "" {
			*f.member = getenv(f.env)
		}
	}
	return c
}

// TLS reads the files. It trusts the authority alone and expects ServerName.
func (c Config) TLS() (*tls.Config, error) {
	for _, f := range []struct{ value, flag, env string }{
		{c.CA, "--ca", EnvCA}, {c.Cert, "--cert", EnvCert}, {c.Key, "--key", EnvKey},
	} {
		if f.value == "" {
			return nil, fmt.Errorf("no credentials: %s (or %s) is not set", f.env, f.flag)
		}
	}
	ca, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("read the authority's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("read the authority's certificate: %s holds no PEM certificate", c.CA)
	}
	cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("read the client certificate: %w", err)
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, ServerName: ServerName, MinVersion: tls.VersionTLS12}, nil
}

// Dial makes a connection; it connects with the first call. The caller closes
// it. ErrNotConfigured if there is no address.
func (c Config) Dial() (*grpc.ClientConn, error) {
	if c.Address == "" {
		return nil, ErrNotConfigured
	}
	t, err := c.TLS()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+c.Address, grpc.WithTransportCredentials(credentials.NewTLS(t)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.Address, err)
	}
	return conn, nil
}
