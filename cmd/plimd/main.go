// Command plimd is Plimsoll's control plane: the API, the agents' sessions, the
// scheduler, the service reconciler, the image registry, on etcd embedded or
// external. docs/plimd.md describes its flags.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/controlplane/server"
)

var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "plimd:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	cfg := server.Config{Version: version}
	var level, format string
	c := &cobra.Command{
		Use:   "plimd",
		Short: "Plimsoll's control plane",
		Args:  cobra.NoArgs,
		// Errors are printed once, by main.
		SilenceErrors: true, SilenceUsage: true, Version: version,
		RunE: func(c *cobra.Command, _ []string) error {
			logger, err := newLogger(level, format)
			if err != nil {
				return err
			}
			cfg.Logger = logger
			return server.Run(c.Context(), cfg)
		},
	}
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
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&format, "log-format", "text", "text or json")
	c.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: see \"plimd --help\"", err) })
	return c
}

func newLogger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level is %q: it must be debug, info, warn or error", level)
	}
	switch options := (&slog.HandlerOptions{Level: l}); format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	}
	return nil, fmt.Errorf("--log-format is %q: it must be text or json", format)
}
