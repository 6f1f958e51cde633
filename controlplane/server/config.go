package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"time"
)

// RegistryHost is the name by which image references call the cluster's own
// registry, whatever its addresses are.
const RegistryHost = "registry.plimsoll.internal"

// Config is a control plane replica's configuration. plimd's flags fill it.
type Config struct {
	Version string
	DataDir string
	// Listen are the addresses of the gRPC API, RegistryListen those of the
	// image registry, MetricsListen that of the metrics (empty: none).
	Listen, RegistryListen []string
	MetricsListen          string
	// Advertise is where other replicas reach this one, RegistryAdvertise where
	// hosts pull from.
	Advertise         string
	RegistryAdvertise []string
	// EtcdEndpoints are an external etcd's; none for the embedded one.
	EtcdEndpoints             []string
	EtcdCA, EtcdCert, EtcdKey string
	SealKeyFile               string
	AccountID, Region         string
	InstanceLossTimeout       time.Duration
	ProvingTime               time.Duration
	TaskRetention             time.Duration
	Logger                    *slog.Logger
}

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	regionPattern  = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
)

// complete checks the configuration and fills what follows from the rest.
func (c *Config) complete() error {
	switch {
	case c.DataDir == "":
		return errors.New("--data-dir is empty: name a directory")
	case len(c.Listen) == 0:
		return errors.New("--listen is empty: give at least one host:port")
	case len(c.RegistryListen) == 0:
		return errors.New("--registry-listen is empty: give at least one host:port")
	case !accountPattern.MatchString(c.AccountID):
		return fmt.Errorf("--account-id is %q: it must be 12 digits", c.AccountID)
	case !regionPattern.MatchString(c.Region):
		return fmt.Errorf("--region is %q: it must be lower-case letters, digits and hyphens", c.Region)
	case c.InstanceLossTimeout < time.Second:
		return fmt.Errorf("--instance-loss-timeout is %s: it must be at least 1s", c.InstanceLossTimeout)
	case c.ProvingTime < 0:
		return fmt.Errorf("--proving-time is %s: it must not be negative", c.ProvingTime)
	case c.TaskRetention <= 0:
		return fmt.Errorf("--task-retention is %s: it must be above 0", c.TaskRetention)
	}
	for flag, addresses := range map[string][]string{"--listen": c.Listen, "--registry-listen": c.RegistryListen} {
		for _, a := range addresses {
			if _, _, err := net.SplitHostPort(a); err != nil {
				return fmt.Errorf("%s is %q: it must be host:port", flag, a)
			}
		}
	}
	if c.Advertise == "" {
		c.Advertise = c.Listen[0]
	}
	if len(c.RegistryAdvertise) == 0 {
		c.RegistryAdvertise = c.RegistryListen
	}
	if c.SealKeyFile == "" {
		c.SealKeyFile = filepath.Join(c.DataDir, "seal.key")
	}
	return nil
}
