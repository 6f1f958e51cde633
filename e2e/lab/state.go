package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoLab is answered when a data directory holds no lab.
var ErrNoLab = errors.New("no cluster is running here")

// ErrRunning is answered when a data directory's lab has its supervisor still.
var ErrRunning = errors.New("a cluster is running already")

// State is the lab's file: what was made outside of the data directory, and
// where to find the cluster.
type State struct {
	Name      string    `json:"name"`
	DataDir   string    `json:"dataDir"`
	StartedAt time.Time `json:"startedAt"`
	// Ready is set once every host has joined.
	Ready      bool `json:"ready"`
	Supervisor Proc `json:"supervisor"`
	Plimd      Proc `json:"plimd"`
	// Bridge and Subnet are empty when the one host uses the machine's network.
	Bridge string `json:"bridge,omitempty"`
	Subnet string `json:"subnet,omitempty"`
	// TaskBridge is the bridge that the agent makes in the machine's network,
	// when there is one host.
	TaskBridge string `json:"taskBridge,omitempty"`
	// NftTable is the table in the machine's network: the lab's with several
	// hosts, the agent's with one.
	NftTable string `json:"nftTable"`
	// Forwarding is set if the lab switched net.ipv4.ip_forward on. It stays on.
	Forwarding bool `json:"forwarding,omitempty"`
	// DockerUser is set if the lab let its bridge through Docker's filter.
	DockerUser   bool   `json:"dockerUser,omitempty"`
	APIPort      int    `json:"apiPort"`
	RegistryPort int    `json:"registryPort"`
	MetricsPort  int    `json:"metricsPort"`
	Region       string `json:"region"`
	AccountID    string `json:"accountId"`
	Hosts        []Host `json:"hosts"`
}

// Host is one host of the lab.
type Host struct {
	Name string `json:"name"`
	// Address is the host's on the bridge; empty for the machine's own network.
	Address string `json:"address,omitempty"`
	// NetNS is the network namespace's name under /run/netns; empty likewise.
	NetNS string `json:"netns,omitempty"`
	Veth  string `json:"veth,omitempty"`
	// Init holds the namespaces; Containerd and Agent run inside.
	Init       Proc `json:"init"`
	Containerd Proc `json:"containerd"`
	Agent      Proc `json:"agent"`
}

func stateFile(dataDir string) string { return filepath.Join(dataDir, "lab.json") }

// Load reads the lab's file; ErrNoLab if there is none.
func Load(dataDir string) (*State, error) {
	data, err := os.ReadFile(stateFile(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dataDir, ErrNoLab)
	} else if err != nil {
		return nil, fmt.Errorf("read the lab's file: %w", err)
	}
	s := &State{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read the lab's file %s: %w", stateFile(dataDir), err)
	}
	return s, nil
}

// save replaces the file whole.
func (s *State) save() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the lab's file: %w", err)
	}
	tmp := stateFile(s.DataDir) + ".new"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the lab's file: %w", err)
	}
	if err := os.Rename(tmp, stateFile(s.DataDir)); err != nil {
		return fmt.Errorf("write the lab's file: %w", err)
	}
	return nil
}

// lock takes the data directory for this process; ErrRunning if another has it.
// It is released when the file is closed or the process ends.
func lock(dataDir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dataDir, "lab.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dataDir, ErrRunning)
		}
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	return f, nil
}
