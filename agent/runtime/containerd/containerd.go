package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"regexp"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sync/singleflight"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
)

const (
	// cleanupTime bounds what is done after a context has ended.
	cleanupTime = 15 * time.Second
	// connectTime bounds each try to reach containerd.
	connectTime = 2 * time.Second
)

// Config says which containerd to use, and how.
type Config struct {
	// Client is a connection to use, which Close leaves open. Without it New
	// connects to Address, /run/containerd/containerd.sock by default.
	Client  *client.Client
	Address string
	// Namespace of containerd, "plimsoll" by default. All that is in it belongs
	// to this runtime.
	Namespace string
	// Snapshotter is "overlayfs" by default.
	Snapshotter string
	// Shim is the runtime's name, "io.containerd.runc.v2" by default, and Runtime
	// the program that it executes, runc by default.
	Shim, Runtime string
	// InitPath is a static init program on the host for containers that ask for
	// one; without it they are refused.
	InitPath string
	// Logger gets what no answer can carry.
	Logger *slog.Logger
}

// Runtime implements runtime.Runtime.
type Runtime struct {
	config     Config
	client     *client.Client
	containers containers.Store
	snapshots  snapshots.Snapshotter
	tasks      tasks.TasksClient
	shim       containers.RuntimeInfo
	host       host
	log        *slog.Logger
	images     *imageCache
	loads      singleflight.Group
	locks      keyedLocks

	mu   sync.Mutex
	lost map[string]time.Time // when a container without a trace was first seen
}

var _ runtime.Runtime = (*Runtime)(nil)

// New connects to containerd and removes what launches that never ended have
// left. It fails when containerd does not answer. Close ends the connection.
func New(ctx context.Context, config Config) (*Runtime, error) {
	config.Address = cmp.Or(config.Address, "/run/containerd/containerd.sock")
	config.Namespace = cmp.Or(config.Namespace, "plimsoll")
	config.Snapshotter = cmp.Or(config.Snapshotter, "overlayfs")
	config.Shim = cmp.Or(config.Shim, "io.containerd.runc.v2")
	config.Logger = cmp.Or(config.Logger, slog.New(slog.DiscardHandler))
	opts, err := typeurl.MarshalAny(&options.Options{BinaryName: config.Runtime})
	if err != nil {
		return nil, fmt.Errorf("encode runtime options: %w", err)
	}
	c := config.Client
	if c == nil {
		c, err = client.New(config.Address, client.WithDefaultNamespace(config.Namespace), client.WithTimeout(connectTime))
		if err != nil {
			return nil, fmt.Errorf("connect to containerd at %s: %w", config.Address, err)
		}
	}
	r := &Runtime{
		config: config, client: c, containers: c.ContainerService(), snapshots: c.SnapshotService(config.Snapshotter),
		tasks: c.TaskService(), shim: containers.RuntimeInfo{Name: config.Shim, Options: opts},
		host: thisHost(config.InitPath), log: config.Logger, images: newImageCache(), lost: map[string]time.Time{},
	}
	if err := r.sweep(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("ask containerd at %s: %w", config.Address, err), r.Close())
	}
	return r, nil
}

// Close ends the connection if New made it. Containers run on.
func (r *Runtime) Close() error {
	if r.config.Client != nil {
		return nil
	}
	return r.client.Close()
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\.\d+(-[a-z0-9.]+)?`)

// Version implements runtime.Runtime.
func (r *Runtime) Version(ctx context.Context) (string, error) {
	v, err := r.client.Version(r.in(ctx))
	if err != nil {
		return "", fmt.Errorf("ask containerd's version: %w", err)
	}
	version := "containerd " + cmp.Or(versionNumber.FindString(v.Version), v.Version)
	if out, err := exec.CommandContext(ctx, cmp.Or(r.config.Runtime, "runc"), "--version").Output(); err == nil {
		if n := versionNumber.Find(out); n != nil {
			version += ", runc " + string(n)
		}
	}
	return version, nil
}

func (r *Runtime) in(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, r.config.Namespace)
}

// cleanup answers a context for removing what a failed call has made.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}
