package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"syscall"
	"time"
)

// DefaultDataDir is where `plim dev` keeps its cluster.
const DefaultDataDir = "/var/lib/plimsoll-dev"

// MaxNodes is how many hosts a lab can have.
const MaxNodes = 200

// Config says what to start.
type Config struct {
	// DataDir holds all of the lab; made if missing. Its path becomes part of
	// sockets' names: at most 60 bytes.
	DataDir string
	// Name begins the names of the bridge, the veths, the network namespaces
	// and the nft table: at most 9 bytes. Made from DataDir when empty.
	Name string
	// Nodes is the number of hosts. A single one uses the machine's own network.
	Nodes int
	// BinDir has plimd and plim-agent.
	BinDir            string
	AccountID, Region string
	// Ports of plimd on loopback and on the bridge; 0 takes a free one.
	APIPort, RegistryPort, MetricsPort int
	// PlimdArgs and AgentArgs are added to the programs' flags.
	PlimdArgs, AgentArgs []string
	// LogLevel of the programs, "info" when empty.
	LogLevel string
	// ReadyTimeout bounds the start; 60 s when 0.
	ReadyTimeout time.Duration
	// Progress is told what happens, in words for a person; may be nil.
	Progress func(string)
	Logger   *slog.Logger
}

// Check says whether Start could begin: the configuration is right, the ports
// are free, the machine has what hosts need. It changes nothing.
func Check(c Config) error {
	c, err := c.complete()
	if err != nil {
		return err
	}
	// What an earlier run left in the data directory is removed before it starts.
	if _, err := Load(c.DataDir); errors.Is(err, ErrNoLab) {
		if err := c.ports(); err != nil {
			return err
		}
	}
	_, err = CheckMachine(c.BinDir)
	return err
}

// complete checks c and fills its defaults.
func (c Config) complete() (Config, error) {
	var err error
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return c, fmt.Errorf("data directory: %w", err)
	}
	if c.BinDir, err = filepath.Abs(c.BinDir); err != nil {
		return c, fmt.Errorf("directory of programs: %w", err)
	}
	if err := foreign(c.DataDir); err != nil {
		return c, err
	}
	if len(c.DataDir) > 60 {
		return c, fmt.Errorf("data directory %s: the path is longer than 60 bytes, too long for the sockets in it", c.DataDir)
	}
	if c.Nodes < 1 || c.Nodes > MaxNodes {
		return c, fmt.Errorf("%d nodes: a lab has 1 to %d", c.Nodes, MaxNodes)
	}
	if c.Name == "" {
		c.Name = NameFor(c.DataDir)
	}
	if len(c.Name) > 9 {
		return c, fmt.Errorf("name %q is longer than 9 bytes", c.Name)
	}
	if c.LogLevel == "" {
		c.LogLevel = "info"
	}
	if c.ReadyTimeout == 0 {
		c.ReadyTimeout = time.Minute
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return c, nil
}

// NameFor is the name that a lab in this data directory has.
func NameFor(dataDir string) string {
	if dataDir == DefaultDataDir {
		return "plimdev"
	}
	sum := sha256.Sum256([]byte(dataDir))
	return "plim" + hex.EncodeToString(sum[:])[:5]
}

// ErrPortTaken is the class of errors about ports that something listens on.
var ErrPortTaken = errors.New("something else listens there")

// ports checks that the ports are free, and chooses those that are 0.
func (c *Config) ports() error {
	for _, p := range []struct {
		what string
		port *int
	}{{"API", &c.APIPort}, {"registry", &c.RegistryPort}, {"metrics", &c.MetricsPort}} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *p.port))
		if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s port %d: %w", p.what, *p.port, err)
		} else if err != nil {
			return fmt.Errorf("%s port %d on 127.0.0.1: %w", p.what, *p.port, ErrPortTaken)
		}
		// Held until all are chosen, so that no port is chosen twice.
		defer l.Close()
		*p.port = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}
