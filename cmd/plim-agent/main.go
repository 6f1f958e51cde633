// Command plim-agent is Plimsoll's agent: it runs on every host, and runs the
// tasks that the control plane places there through the host's containerd.
// docs/plim-agent.md describes its flags.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/agent/node"
	"github.com/plimsoll-project/plimsoll/cmd/internal/daemon"
)

var version = "dev"

func main() {
	// The agent is small and mostly idle: it gives memory back early.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	daemon.Main(command())
}

func command() *cobra.Command {
	cfg := node.Config{Version: version}
	var tokenFile string
	c := daemon.Command("plim-agent", "Plimsoll's agent on a host", version, func(ctx context.Context, l *slog.Logger) (err error) {
		cfg.Logger = l
		if tokenFile != "" && cfg.JoinToken == "" {
			if cfg.JoinToken, err = readToken(tokenFile); err != nil {
				return err
			}
		}
		if cfg.Hostname == "" {
			if cfg.Hostname, err = os.Hostname(); err != nil {
				return err
			}
		}
		return node.Run(ctx, cfg)
	})
	f := c.Flags()
	f.StringSliceVar(&cfg.Servers, "server", nil, "host:port of the control plane; repeatable")
	f.StringVar(&cfg.JoinToken, "join-token", "", "token with which the host joins, once")
	f.StringVar(&tokenFile, "join-token-file", "", "file with that token; not read once the host has joined")
	f.StringVar(&cfg.Cluster, "cluster", "", "cluster to join; the token's if empty")
	f.StringVar(&cfg.DataDir, "data-dir", "/var/lib/plimsoll/agent", "directory of what outlives a reboot")
	f.StringVar(&cfg.RuntimeDir, "runtime-dir", "/run/plimsoll", "directory of what does not")
	f.StringVar(&cfg.ContainerdAddress, "containerd-address", "/run/containerd/containerd.sock", "containerd's socket")
	f.StringVar(&cfg.ContainerdNamespace, "containerd-namespace", "plimsoll", "containerd namespace; all in it is the agent's")
	f.StringVar(&cfg.BridgeName, "bridge-name", "plim0", "bridge of tasks in bridge mode")
	f.StringVar(&cfg.BridgeSubnet, "bridge-subnet", "172.30.0.0/16", "addresses of tasks in bridge mode")
	f.StringVar(&cfg.NftTable, "nft-table", "plimsoll", "nftables table of published ports")
	f.StringVar(&cfg.Publish, "publish", "", "addresses of this host on which ports are published, as a prefix (10.0.0.0/8); all if empty")
	f.StringSliceVar(&cfg.Attributes, "attribute", nil, "NAME=VALUE, an attribute for placement; repeatable")
	f.StringVar(&cfg.AvailabilityZone, "availability-zone", "default", "attribute ecs.availability-zone")
	f.StringVar(&cfg.Hostname, "hostname", "", "the host's name; the system's if empty")
	f.Int64Var(&cfg.CPU, "cpu", 0, "CPU units for tasks; 1024 a core if 0")
	f.Int64Var(&cfg.Memory, "memory", 0, "MiB for tasks; all of the host's if 0")
	f.Int64Var(&cfg.ReservedMemory, "reserved-memory", 0, "MiB that are kept from tasks")
	f.IntVar(&cfg.MaxLaunches, "max-launches", 0, "containers that are started at once; twice the cores if 0")
	f.IntVar(&cfg.MaxPulls, "max-pulls", 0, "images that are downloaded at once; 3 if 0")
	f.StringVar(&cfg.RegistryHostsDir, "registry-hosts-dir", "/etc/containerd/certs.d", "configuration of other image registries, as containerd's certs.d: mirrors, authorities, plain HTTP")
	f.Int64Var(&cfg.LogMaxBytes, "log-max-bytes", 50<<20, "bytes of a container's output that are kept")
	f.StringVar(&cfg.MetricsListen, "metrics-listen", "", "address of /metrics (HTTP); none if empty")
	return c
}

// readToken reads the join token; a file that is gone is none, as it may be once
// the host has joined.
func readToken(file string) (string, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("--join-token-file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
