package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// EmbeddedMaxTxnOps is how many operations a transaction of an embedded server
// may have: the MaxTxnOps to open a Store on it with.
const EmbeddedMaxTxnOps = 4096

// EmbeddedConfig is what StartEmbedded needs. DataDir is required; zero values
// of the others take the defaults named.
type EmbeddedConfig struct {
	// DataDir holds etcd's files; it is made, readable to its owner alone.
	DataDir string
	// Name is the member's. "plimsoll".
	Name string
	// ClientSocket is the path of a unix socket for etcdctl (at most 107 bytes);
	// none if it is empty. Whoever can open it can do everything.
	ClientSocket string
	// QuotaBytes bounds the database. 4 GiB.
	QuotaBytes int64
	// Compaction is how much history is kept, for watches that lag. 5 min.
	Compaction time.Duration
	// Logger gets etcd's warnings and errors; none logs nothing.
	Logger *slog.Logger
}

// Embedded is an etcd server of one member in this process. It listens on
// nothing (but ClientSocket): its one client is in the process. Every write is
// synced to disk before it is acknowledged.
type Embedded struct {
	// Client is connected to the server without a socket. Close ends it.
	Client *clientv3.Client
	server *embed.Etcd
}

// StartEmbedded starts the server, and waits until it serves or ctx ends.
func StartEmbedded(ctx context.Context, cfg EmbeddedConfig) (*Embedded, error) {
	setDefault(&cfg.Name, "plimsoll")
	setDefault(&cfg.QuotaBytes, 4<<30)
	setDefault(&cfg.Compaction, 5*time.Minute)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make etcd's directory: %w", err)
	}
	// etcd warns at every start about listeners that do not apply here.
	level := zap.NewAtomicLevelAt(zapcore.ErrorLevel)
	server, err := embed.StartEtcd(embeddedConfig(cfg, zapTo(cfg.Logger, level)))
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.DataDir, err)
	}
	e := &Embedded{server: server}
	select {
	case <-server.Server.ReadyNotify():
	case err = <-server.Err():
	case <-server.Server.StopNotify():
		err = fmt.Errorf("it stopped")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		server.Close()
		return nil, fmt.Errorf("wait for etcd in %s: %w", cfg.DataDir, err)
	}
	level.SetLevel(zapcore.WarnLevel)
	e.Client = v3client.New(server.Server)
	return e, nil
}

func embeddedConfig(cfg EmbeddedConfig, log *zap.Logger) *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = cfg.Name, cfg.DataDir
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	// The addresses name the member; nothing listens there and nobody dials.
	self := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	c.AdvertisePeerUrls, c.AdvertiseClientUrls = []url.URL{self}, []url.URL{self}
	c.InitialCluster = cfg.Name + "=" + self.String()
	c.ListenPeerUrls, c.ListenClientUrls = nil, nil
	if cfg.ClientSocket != "" {
		c.ListenClientUrls = []url.URL{{Scheme: "unix", Path: cfg.ClientSocket}}
	}
	c.EnableGRPCGateway = false
	// With one member nobody else can be elected, and ticks are only delay.
	c.TickMs, c.ElectionMs = 50, 500
	c.MaxTxnOps = EmbeddedMaxTxnOps
	c.MaxRequestBytes = 16 << 20
	c.QuotaBackendBytes = cfg.QuotaBytes
	c.AutoCompactionMode = embed.CompactorModePeriodic
	c.AutoCompactionRetention = cfg.Compaction.String()
	return c
}

// Done is closed when the server has stopped, by Close or by a failure.
func (e *Embedded) Done() <-chan struct{} { return e.server.Server.StopNotify() }

// Close ends the client and the server, and waits for both. What is
// acknowledged is on disk.
func (e *Embedded) Close() error {
	err := e.Client.Close()
	e.server.Close()
	<-e.server.Server.StopNotify()
	if err != nil && err != context.Canceled {
		return fmt.Errorf("close etcd's client: %w", err)
	}
	return nil
}
