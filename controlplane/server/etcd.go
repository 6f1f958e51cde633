package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/plimsoll-project/plimsoll/controlplane/store/etcd"
)

// externalMaxTxnOps is etcd's default for --max-txn-ops.
const externalMaxTxnOps = 128

// etcdConn is the etcd in use, embedded or external.
type etcdConn struct {
	client    *clientv3.Client
	embedded  *etcd.Embedded
	maxTxnOps int
}

func connect(ctx context.Context, cfg Config) (*etcdConn, error) {
	if len(cfg.EtcdEndpoints) == 0 {
		e, err := etcd.StartEmbedded(ctx, etcd.EmbeddedConfig{DataDir: filepath.Join(cfg.DataDir, "etcd"), Logger: cfg.Logger})
		if err != nil {
			return nil, fmt.Errorf("start the embedded etcd: %w", err)
		}
		return &etcdConn{client: e.Client, embedded: e, maxTxnOps: etcd.EmbeddedMaxTxnOps}, nil
	}
	t, err := etcdTLS(cfg)
	if err != nil {
		return nil, err
	}
	c, err := etcd.Connect(cfg.EtcdEndpoints, t, cfg.Logger)
	if err != nil {
		return nil, fmt.Errorf("--etcd-endpoints: %w", err)
	}
	if _, err := c.Get(ctx, "plimsoll"); err != nil {
		c.Close()
		return nil, fmt.Errorf("--etcd-endpoints %v: %w", cfg.EtcdEndpoints, err)
	}
	return &etcdConn{client: c, maxTxnOps: externalMaxTxnOps}, nil
}

func etcdTLS(cfg Config) (*tls.Config, error) {
	if cfg.EtcdCA == "" && cfg.EtcdCert == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.EtcdCA != "" {
		b, err := os.ReadFile(cfg.EtcdCA)
		if err != nil {
			return nil, fmt.Errorf("--etcd-ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("--etcd-ca: %s has no PEM certificate", cfg.EtcdCA)
		}
	}
	if cfg.EtcdCert != "" {
		pair, err := tls.LoadX509KeyPair(cfg.EtcdCert, cfg.EtcdKey)
		if err != nil {
			return nil, fmt.Errorf("--etcd-cert, --etcd-key: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

func (e *etcdConn) close() error {
	if e.embedded != nil {
		return e.embedded.Close()
	}
	if err := e.client.Close(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func randomSuffix() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// quiet hands net/http's complaints (a client that spoke no TLS, say) to the
// log at debug level.
func quiet(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }
