package runtime

import (
	"context"
	"errors"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ErrNotFound is what is answered of a container that does not exist.
var ErrNotFound = errors.New("no such container")

// Runtime runs containers. Implementations pass the suite in runtimetest. All
// methods are safe for concurrent use and idempotent as each says; none of
// them outlives its context but for cleanup, which has bounds of its own.
type Runtime interface {
	// Create makes the container and its process, not started: snapshot,
	// container, shim. A container of that ID that exists already in status
	// Created is answered as it is; one in another status is an error. What a
	// failed Create made is removed again.
	Create(ctx context.Context, spec Spec) (Container, error)
	// Start starts the process. Starting one that runs changes nothing.
	Start(ctx context.Context, id string) error
	// Kill sends a signal to the container's first process; to all of its
	// processes if all is set. One that has exited is no error.
	Kill(ctx context.Context, id string, signal int, all bool) error
	// Remove kills what runs and deletes process, container and snapshot. One
	// that does not exist is no error. When it returns nil nothing is left.
	Remove(ctx context.Context, id string) error
	// List answers every container that this runtime's namespace holds.
	List(ctx context.Context) ([]Container, error)
	// Get answers one container.
	Get(ctx context.Context, id string) (Container, error)
	// Events sends exits and OOM kills until ctx ends, then closes the channel.
	// It reconnects by itself; what happened in between is lost, so relist too.
	Events(ctx context.Context) <-chan Event
	// Version names the runtime, for example "containerd 1.6.20, runc 1.1.5".
	Version(ctx context.Context) (string, error)
}

// Spec is a container to make.
type Spec struct {
	// ID is unique on the host; letters, digits, - and _.
	ID string
	// Image is the digest reference that images.Pull answered (name@sha256:...).
	Image string
	// Labels are put on the container and answered by List.
	Labels map[string]string
	// OCI completes a default specification made from the image's configuration
	// (its entry point, command, environment, user, working directory): fields
	// that are set here replace or extend those.
	Process Process
	// NetNS is the path of the network namespace to join; empty is the host's.
	NetNS    string
	Hostname string
	// Mounts are added to the default ones. They replace a default one of the
	// same destination.
	Mounts []specs.Mount
	// CgroupsPath is where the container's cgroup stands, empty for the default.
	CgroupsPath    string
	Resources      *specs.LinuxResources
	ReadonlyRootfs bool
	Sysctl         map[string]string
	// LogPath is the file that gets stdout and stderr as they come, in their
	// order. The shim writes it, so that output needs nobody to be alive.
	LogPath string
	// StopSignal of the image is answered in Container.
}

// Process is what differs from the image's own process.
type Process struct {
	// Entrypoint and Command replace the image's when not nil. An Entrypoint
	// also drops the image's Command.
	Entrypoint, Command []string
	// Env are NAME=value; they replace the image's of the same name.
	Env        []string
	WorkingDir string
	// User is user[:group], names or numbers, looked up in the image.
	User                  string
	Rlimits               []specs.POSIXRlimit
	AddCaps, DropCaps     []string
	NoNewPrivileges       bool
	Init                  bool
	AdditionalGroupNumber []uint32
}

// Status is where a container's process is.
type Status string

// The statuses.
const (
	Created Status = "created"
	Running Status = "running"
	// Stopped is an exited process, or a container whose process is gone
	// without a trace (its shim was killed): then ExitCode is 137.
	Stopped Status = "stopped"
)

// Container is what is observed of one.
type Container struct {
	ID     string
	Labels map[string]string
	Status Status
	// Pid in the host's namespace; 0 unless Created or Running.
	Pid int
	// ExitCode and ExitedAt are set when Stopped.
	ExitCode   int
	ExitedAt   time.Time
	CreatedAt  time.Time
	StopSignal int // the image's, SIGTERM if it has none
	Image      string
}

// Event is an exit or an OOM kill.
type Event struct {
	ID   string
	Kind EventKind
	// ExitCode and At are an Exited's.
	ExitCode int
	At       time.Time
}

// EventKind says what happened.
type EventKind int

// The kinds.
const (
	Exited EventKind = iota + 1
	OOMKilled
)
