package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
)

// Config is an agent's configuration. plim-agent's flags fill it.
type Config struct {
	Version string
	// Servers are host:port of control plane replicas.
	Servers []string
	// JoinToken is used where the host has not joined yet.
	JoinToken string
	Cluster   string
	// DataDir outlives reboots; RuntimeDir does not.
	DataDir, RuntimeDir string
	ContainerdAddress   string
	ContainerdNamespace string
	BridgeName          string
	BridgeSubnet        string
	NftTable            string
	// Publish are the host's addresses on which ports are published, as a prefix;
	// all of them when empty.
	Publish string
	// Attributes are NAME=VALUE.
	Attributes       []string
	AvailabilityZone string
	Hostname         string
	// CPU units and MiB that tasks may have; the host's when 0. ReservedMemory
	// (MiB) is taken off the latter.
	CPU, Memory, ReservedMemory int64
	// MaxLaunches is how many containers are started at once; twice the cores
	// when 0.
	MaxLaunches int
	// MaxPulls is how many images are downloaded at once; 3 when 0.
	MaxPulls int
	// RegistryHostsDir configures registries, as containerd's certs.d.
	RegistryHostsDir string
	// LogMaxBytes is what one container's output may take on disk.
	LogMaxBytes int64
	// MetricsListen is host:port of /metrics (HTTP); empty for none.
	MetricsListen string
	Logger        *slog.Logger
}

func (c *Config) complete() error {
	switch {
	case len(c.Servers) == 0:
		return errors.New("--server is empty: give the control plane's host:port")
	case c.DataDir == "" || c.RuntimeDir == "":
		return errors.New("--data-dir and --runtime-dir must name directories")
	case c.CPU < 0 || c.Memory < 0 || c.ReservedMemory < 0:
		return errors.New("--cpu, --memory and --reserved-memory must not be negative")
	case c.MaxLaunches < 0:
		return errors.New("--max-launches must not be negative")
	case c.MaxPulls < 0:
		return errors.New("--max-pulls must not be negative")
	}
	if _, err := attributesOf(*c); err != nil {
		return err
	}
	for _, s := range c.Servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return fmt.Errorf("--server is %q: it must be host:port", s)
		}
	}
	if _, err := netip.ParsePrefix(c.BridgeSubnet); err != nil {
		return fmt.Errorf("--bridge-subnet is %q: it must be an IPv4 prefix, such as 172.30.0.0/16", c.BridgeSubnet)
	}
	if c.Publish != "" {
		if p, err := netip.ParsePrefix(c.Publish); err != nil || !p.Addr().Is4() {
			return fmt.Errorf("--publish is %q: it must be addresses of this host as an IPv4 prefix, such as 10.0.0.0/8", c.Publish)
		}
	}
	if c.MaxLaunches == 0 {
		c.MaxLaunches = 2 * runtime.NumCPU()
	}
	if c.MaxPulls == 0 {
		c.MaxPulls = 3
	}
	return nil
}
