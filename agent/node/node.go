package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/log"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/agent/images"
	"github.com/plimsoll-project/plimsoll/agent/journal"
	"github.com/plimsoll-project/plimsoll/agent/logs"
	"github.com/plimsoll-project/plimsoll/agent/runner"
	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/agent/runtime/containerd"
	"github.com/plimsoll-project/plimsoll/agent/session"
	"github.com/plimsoll-project/plimsoll/cni"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// relist is how often the runtime's listing makes up for lost events.
const relist = 10 * time.Second

// checkInterval is how often the runtime is asked whether it answers, and
// checkTimeout for how long.
const (
	checkInterval = 2 * time.Second
	checkTimeout  = 5 * time.Second
)

// node is a running agent.
type node struct {
	cfg      Config
	identity *session.Identity
	runtime  runtime.Runtime
	images   imageStore
	network  cni.Network
	journal  *journal.Journal
	logs     *logs.Logs
	runner   *runner.Runner
	session  *session.Session

	connected atomic.Bool

	mu       sync.Mutex
	complete bool // the first complete set of assignments is here
	swept    bool // what nobody owned is gone
}

// imageStore brings images onto the host.
type imageStore interface {
	runner.Puller
	// SetRegistry says where the cluster's own registry is.
	SetRegistry(host string, endpoints []string, t *tls.Config)
}

// Run runs the agent until ctx ends.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := cfg.complete(); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	// containerd's libraries tell each request; what fails is returned anyway.
	if err := log.SetLevel("error"); err != nil {
		return err
	}
	n := &node{cfg: cfg}
	if n.journal, err = journal.Open(filepath.Join(cfg.DataDir, "journal.db")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.journal.Close()) }()
	if n.identity, err = identity(ctx, cfg); err != nil {
		return err
	}
	c, err := client.New(cfg.ContainerdAddress, client.WithDefaultNamespace(cfg.ContainerdNamespace), client.WithTimeout(20*time.Second))
	if err != nil {
		return fmt.Errorf("connect to containerd at %s: %w", cfg.ContainerdAddress, err)
	}
	defer c.Close()
	if n.runtime, err = containerd.New(ctx, containerd.Config{Client: c, Namespace: cfg.ContainerdNamespace, Logger: cfg.Logger}); err != nil {
		return err
	}
	n.images = puller{images.New(images.Config{
		Client: c, Namespace: cfg.ContainerdNamespace, HostsDir: cfg.RegistryHostsDir, Downloads: cfg.MaxPulls, Logger: cfg.Logger,
	})}
	n.logs, err = logs.New(logs.Config{Dir: filepath.Join(cfg.DataDir, "logs"), MaxBytes: cfg.LogMaxBytes, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	var publish netip.Prefix
	if cfg.Publish != "" {
		publish = netip.MustParsePrefix(cfg.Publish)
	}
	bridge, err := cni.NewBridge(cni.BridgeConfig{
		Publish: publish,
		Name:    cfg.BridgeName, Subnet: netip.MustParsePrefix(cfg.BridgeSubnet), TableName: cfg.NftTable, Logger: cfg.Logger,
		NetNSDir: filepath.Join(cfg.RuntimeDir, "netns"), StateDir: filepath.Join(cfg.RuntimeDir, "network"),
	})
	if err != nil {
		return fmt.Errorf("bridge network: %w", err)
	}
	defer func() { err = errors.Join(err, bridge.Close(false)) }()
	n.network = bridge
	return n.serve(ctx)
}

// identity is the host's, by joining if it has none, or one that is over.
func identity(ctx context.Context, cfg Config) (*session.Identity, error) {
	dir := filepath.Join(cfg.DataDir, "identity")
	id, err := session.Load(dir)
	switch {
	case err == nil && cfg.Cluster != "" && cfg.Cluster != id.Cluster:
		return nil, fmt.Errorf("--cluster is %q, but this host has joined cluster %q: leave the flag out, or remove %s to join another cluster as a new container instance",
			cfg.Cluster, id.Cluster, cfg.DataDir)
	case err == nil && !id.Expired(time.Now()):
		return id, nil
	case err == nil && cfg.JoinToken == "":
		return nil, errors.New("this host was away for longer than its certificate lasts: give --join-token or --join-token-file to join again (`plim join-token create`)")
	case err == nil:
		cfg.Logger.Warn("the node certificate is over: join again", "instance", id.Instance)
	case !errors.Is(err, session.ErrNotJoined):
		return nil, err
	}
	if cfg.JoinToken == "" {
		return nil, errors.New("this host has not joined a cluster: give --join-token or --join-token-file (`plim join-token create`)")
	}
	return session.Join(ctx, dir, cfg.JoinToken, cfg.Cluster, cfg.Servers)
}

// serve runs the tasks until ctx ends.
func (n *node) serve(ctx context.Context) error {
	version, err := n.runtime.Version(ctx)
	if err != nil {
		return err
	}
	greeting, err := hello(n.cfg, version)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	s := session.New(session.Config{
		Identity: n.identity, Servers: n.cfg.Servers, Hello: func() *pb.Hello { return proto.CloneOf(greeting) }, Handler: n, Logger: n.cfg.Logger,
		Connected: func(connected bool) {
			n.connected.Store(connected)
			if connected {
				_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
			}
		},
	})
	n.session = s
	n.runner = runner.New(ctx, runner.Config{
		Runtime: n.runtime, Network: n.network, Images: n.images, Logs: n.logs, Journal: n.journal, Report: s.Report,
		Dir: filepath.Join(n.cfg.RuntimeDir, "tasks"), Hostname: n.cfg.Hostname, Launches: n.cfg.MaxLaunches,
		Now: time.Now, Logger: n.cfg.Logger,
	})
	// Events first: what ends while the listing is read is then told too.
	events := n.runtime.Events(ctx)
	if err := n.runner.Recover(ctx); err != nil {
		return fmt.Errorf("take over what runs: %w", err)
	}
	g.Go(func() error { n.observe(ctx, events); return nil })
	g.Go(func() error { n.check(ctx); return nil })
	g.Go(func() error { return n.logs.Run(ctx) })
	g.Go(func() error { return s.Run(ctx) })
	if n.cfg.MetricsListen != "" {
		g.Go(func() error { return n.serveMetrics(ctx) })
	}
	err = g.Wait()
	n.runner.Wait()
	return err
}

// observe hands on what the runtime tells, and lists now and then.
func (n *node) observe(ctx context.Context, events <-chan runtime.Event) {
	t := time.NewTicker(relist)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			n.runner.Exited(runner.TaskOf(e.ID), e)
		case <-t.C:
			containers, err := n.runtime.List(ctx)
			if err != nil {
				n.cfg.Logger.Warn("list containers", "err", err)
				continue
			}
			n.runner.Observe(containers)
			n.sweep(ctx)
		}
	}
}

// check asks the runtime now and then whether it answers, and has the control
// plane know.
func (n *node) check(ctx context.Context) {
	t := time.NewTicker(checkInterval)
	defer t.Stop()
	down := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		ask, cancel := context.WithTimeout(ctx, checkTimeout)
		_, err := n.runtime.Version(ask)
		cancel()
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && !down:
			n.cfg.Logger.Error("the container runtime does not answer", "err", err)
			n.session.SetRuntimeError(err.Error())
		case err == nil && down:
			n.cfg.Logger.Info("the container runtime answers again")
			n.session.SetRuntimeError("")
		}
		down = err != nil
	}
}

// Welcomed takes the cluster's registry.
func (n *node) Welcomed(w *pb.Welcome) {
	n.images.SetRegistry(w.GetRegistryHost(), w.GetRegistryEndpoints(), n.identity.TLS())
}

// Assigned runs what is assigned, and ends what is no longer.
func (n *node) Assigned(ctx context.Context, a *pb.Assignments) error {
	if err := n.runner.Assign(a.GetUpdates()...); err != nil {
		return err
	}
	removes := a.GetRemoves()
	if a.GetType() == pb.Assignments_TYPE_COMPLETE {
		assigned := map[string]bool{}
		for _, u := range a.GetUpdates() {
			assigned[u.GetTaskId()] = true
		}
		for _, id := range n.runner.Tasks() {
			if !assigned[id] {
				removes = append(removes, id)
			}
		}
	}
	for _, id := range removes {
		if err := n.runner.Unassign(id); err != nil {
			return err
		}
	}
	n.mu.Lock()
	first := !n.complete && a.GetType() == pb.Assignments_TYPE_COMPLETE
	n.complete = n.complete || first
	n.mu.Unlock()
	if first {
		n.sweep(ctx)
	}
	return nil
}

// sweep removes what nobody owns, once it is known what somebody owns.
func (n *node) sweep(ctx context.Context) {
	n.mu.Lock()
	due := n.complete && !n.swept
	n.mu.Unlock()
	if !due {
		return
	}
	err := n.runner.Sweep(ctx)
	if err != nil {
		n.cfg.Logger.Warn("remove what no task owns", "err", err)
	}
	n.mu.Lock()
	n.swept = err == nil
	n.mu.Unlock()
}

// Rejected changes nothing: a status is also refused because it is stored
// already, when its acknowledgement was lost. Which tasks are the host's is said
// by assignments alone.
func (n *node) Rejected(tasks []string) {
	n.cfg.Logger.Debug("statuses are not taken", "tasks", tasks)
}

// Logs hands a container's output on.
func (n *node) Logs(ctx context.Context, r *pb.LogsTunnel, send func([]byte) error) error {
	return n.logs.Read(ctx, r.GetTaskId(), r.GetContainer(), int(r.GetTail()), r.GetFollow(), send)
}

// puller answers images as the runner wants them.
type puller struct{ *images.Images }

// Pull brings an image onto the host.
func (p puller) Pull(ctx context.Context, name string, tell func(string)) (ref, digest string, err error) {
	i, err := p.Images.Pull(ctx, name, tell)
	return i.Ref, i.Digest, err
}
