package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Lab is a running cluster and its supervisor.
type Lab struct {
	config     Config
	containerd string
	taskSubnet netip.Prefix
	lockFile   *os.File

	mu    sync.Mutex
	state *State
	// watched are plimd and the agents; one that ends without being asked to is
	// told to failed.
	watched []*process

	failed  chan *process
	waiting sync.WaitGroup
}

// Start starts a lab and returns once every host has joined. What a killed one
// left in the data directory is removed first, but for the cluster's data. If
// it fails, what it started is taken down again and the data directory stays,
// for its logs. ErrRunning if the data directory's lab runs.
func Start(ctx context.Context, config Config) (*Lab, error) {
	config, err := config.complete()
	if err != nil {
		return nil, err
	}
	containerd, err := CheckMachine(config.BinDir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(config.DataDir, 0o755); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	locked, err := lock(config.DataDir)
	if err != nil {
		return nil, err
	}
	_, err = os.Stat(filepath.Join(config.DataDir, "plimd"))
	kept := err == nil
	l := &Lab{config: config, containerd: containerd, lockFile: locked, failed: make(chan *process, MaxNodes+1)}
	if err := l.up(ctx); err != nil {
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		// Its logs say why it failed; of an interrupt there is nothing to say.
		return nil, errors.Join(err, l.Stop(cleaning, kept || ctx.Err() == nil))
	}
	return l, nil
}

func (l *Lab) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.config.ReadyTimeout)
	defer cancel()
	if old, err := Load(l.config.DataDir); err == nil {
		l.config.Progress("removing what an earlier run left")
		if err := old.teardown(ctx); err != nil {
			return fmt.Errorf("remove what an earlier run left: %w", err)
		}
	} else if !errors.Is(err, ErrNoLab) {
		return err
	}
	if err := l.config.ports(); err != nil {
		return err
	}
	subnet, err := l.plan(ctx)
	if err != nil {
		return err
	}
	if l.state.Bridge != "" {
		if err := l.makeBridge(ctx, subnet); err != nil {
			return err
		}
	}
	l.config.Progress("starting the control plane")
	// The hosts' networks and containerds need no control plane.
	starting, inner := errgroup.WithContext(ctx)
	for i, h := range l.state.Hosts {
		starting.Go(func() error {
			if h.NetNS != "" {
				if err := l.makeNetwork(inner, h); err != nil {
					return err
				}
			}
			if err := l.startInit(i); err != nil {
				return err
			}
			return l.startContainerd(inner, i)
		})
	}
	starting.Go(func() error {
		if err := l.startPlimd(inner); err != nil {
			return err
		}
		return l.writeToken(inner)
	})
	if err := starting.Wait(); err != nil {
		return err
	}
	l.config.Progress(fmt.Sprintf("starting %d host(s)", len(l.state.Hosts)))
	for i := range l.state.Hosts {
		if err := l.startAgent(i); err != nil {
			return err
		}
	}
	if err := l.waitJoined(ctx, len(l.state.Hosts)); err != nil {
		return err
	}
	return l.record(func(s *State) { s.Ready = true })
}

// plan decides names and addresses and writes the lab's file.
func (l *Lab) plan(ctx context.Context) (netip.Prefix, error) {
	c := l.config
	self, err := procOf(os.Getpid())
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("read own process: %w", err)
	}
	s := &State{
		Name: c.Name, DataDir: c.DataDir, StartedAt: time.Now().UTC(), Supervisor: self, NftTable: c.Name,
		APIPort: c.APIPort, RegistryPort: c.RegistryPort, MetricsPort: c.MetricsPort, Region: c.Region, AccountID: c.AccountID,
	}
	var subnet netip.Prefix
	if c.Nodes == 1 {
		s.TaskBridge = c.Name + "0"
		if l.taskSubnet, err = freeSubnet(taskSubnets()); err != nil {
			return subnet, err
		}
		s.Hosts = []Host{{Name: "node-1"}}
	} else {
		if subnet, err = freeSubnet(hostSubnets()); err != nil {
			return subnet, err
		}
		s.Bridge, s.Subnet = c.Name+"0", subnet.String()
		s.Forwarding = !forwarding()
		s.DockerUser = hasDockerUser(ctx)
		for i := range c.Nodes {
			s.Hosts = append(s.Hosts, Host{
				Name: fmt.Sprintf("node-%d", i+1), Address: nth(subnet, 11+i).String(),
				NetNS: fmt.Sprintf("%s-n%d", c.Name, i+1), Veth: fmt.Sprintf("%sv%d", c.Name, i+1),
			})
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	return subnet, s.save()
}

// record changes the lab's file.
func (l *Lab) record(change func(*State)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l.state)
	return l.state.save()
}

func (l *Lab) host(i int) Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Hosts[i]
}

// State answers a copy of the lab's file.
func (l *Lab) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := *l.state
	s.Hosts = slices.Clone(s.Hosts)
	return s
}

// keep watches a process from now on; one that ended already is told at once.
func (l *Lab) keep(p *process) {
	l.mu.Lock()
	l.watched = append(l.watched, p)
	l.mu.Unlock()
	select {
	case <-p.done:
		l.ended(p)
	default:
	}
}

// forget has a process's end be no failure.
func (l *Lab) forget(proc Proc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watched = slices.DeleteFunc(l.watched, func(p *process) bool { return p.Proc == proc })
}

// ended tells of a watched process's end, once.
func (l *Lab) ended(p *process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.watched, p)
	if i < 0 {
		return
	}
	l.watched = slices.Delete(l.watched, i, i+1)
	select {
	case l.failed <- p:
	default: // As many ended as there are; more says nothing new.
	}
}

// Stop takes the lab down: nothing is left of it but, with keepData, the data
// directory, from which Start goes on.
func (l *Lab) Stop(ctx context.Context, keepData bool) error {
	l.mu.Lock()
	l.watched = nil
	state := l.state
	l.mu.Unlock()
	var err error
	if state != nil {
		err = state.teardown(ctx)
	}
	if err == nil {
		l.waiting.Wait()
		if !keepData {
			err = removeData(l.config.DataDir)
		}
	}
	return errors.Join(err, l.lockFile.Close())
}

// ErrNotReady is the class of errors about what the machine lacks.
var ErrNotReady = errors.New("this machine cannot run hosts")

// CheckMachine says what a host needs and this machine lacks. It answers
// containerd's path.
func CheckMachine(binDir string) (string, error) {
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("%w: containers need root: run it with sudo", ErrNotReady)
	}
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return "", err
	}
	var containerd string
	for _, need := range []struct{ program, pkg string }{
		{"containerd", "containerd"}, {"containerd-shim-runc-v2", "containerd"}, {"runc", "runc"}, {"ip", "iproute2"},
		{"nft", "nftables"}, {"mount", "mount"},
	} {
		path, err := exec.LookPath(need.program)
		if err != nil {
			return "", fmt.Errorf("%w: %s is missing: apt-get install %s", ErrNotReady, need.program, need.pkg)
		}
		if need.program == "containerd" {
			containerd = path
		}
	}
	for _, program := range []string{"plimd", "plim-agent"} {
		if _, err := os.Stat(binDir + "/" + program); err != nil {
			return "", fmt.Errorf("%w: %s is not in %s: build it with make build", ErrNotReady, program, binDir)
		}
	}
	return containerd, nil
}
