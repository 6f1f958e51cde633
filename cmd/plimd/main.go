// Command plimd is Plimsoll's control plane: the API, the agents' sessions, the
// scheduler, the service reconciler, the image registry, on etcd embedded or
// external. docs/plimd.md describes its flags.
package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/cmd/internal/daemon"
	"github.com/plimsoll-project/plimsoll/controlplane/server"
)

var version = "dev"

func main() { daemon.Main(command()) }

func command() *cobra.Command {
	cfg := server.Config{Version: version}
	c := daemon.Command("plimd", "Plimsoll's control plane", version, func(ctx context.Context, l *slog.Logger) error {
		cfg.Logger = l
		return server.Run(ctx, cfg)
	})
	f := c.Flags()
	f.StringVar(&cfg.DataDir, "data-dir", "/var/lib/plimsoll/server", "directory of all that plimd keeps")
	f.StringSliceVar(&cfg.Listen, "listen", []string{"127.0.0.1:7400"}, "address of the gRPC API and of agents' sessions; repeatable")
	f.StringVar(&cfg.Advertise, "advertise", "", "host:port of the API for other replicas; the first --listen if empty")
	f.StringSliceVar(&cfg.RegistryListen, "registry-listen", []string{"127.0.0.1:7401"}, "address of the image registry (HTTPS); repeatable")
	f.StringSliceVar(&cfg.RegistryAdvertise, "registry-advertise", nil, "host:port from which hosts pull; repeatable; every --registry-listen if empty")
	f.StringVar(&cfg.MetricsListen, "metrics-listen", "127.0.0.1:7402", "address of /metrics, /healthz and /readyz (HTTP); empty for none")
	f.StringSliceVar(&cfg.EtcdEndpoints, "etcd-endpoints", nil, "endpoints of an external etcd; empty for the embedded one")
	f.StringVar(&cfg.EtcdCA, "etcd-ca", "", "file of the external etcd's certificate authority (PEM)")
	f.StringVar(&cfg.EtcdCert, "etcd-cert", "", "file of the client certificate for the external etcd (PEM)")
	f.StringVar(&cfg.EtcdKey, "etcd-key", "", "file of that certificate's key (PEM)")
	f.StringVar(&cfg.SealKeyFile, "seal-key-file", "", "file of the key that seals the authority's private key; DATA-DIR/seal.key if empty; replicas share it")
	f.StringVar(&cfg.AccountID, "account-id", "123456789012", "account in ARNs, 12 digits")
	f.StringVar(&cfg.Region, "region", "us-east-1", "region in ARNs")
	f.DurationVar(&cfg.InstanceLossTimeout, "instance-loss-timeout", 15*time.Second, "how long a host may be unreachable before its tasks are replaced")
	f.DurationVar(&cfg.ProvingTime, "proving-time", time.Second, "how long a task of a new deployment must run before it counts as healthy without a health check")
	f.DurationVar(&cfg.TaskRetention, "task-retention", 30*24*time.Hour, "how long stopped tasks can be described")
	return c
}
