package cni

import (
	"context"
	"net/netip"
)

// Network gives tasks their network. The bridge implements it for real, the
// fake for the agent's tests.
type Network interface {
	// Add gives the task a network namespace with an address, and publishes the
	// ports. It is idempotent: for a task that has all of it, it answers what
	// there is. What a failed Add made is removed again.
	Add(ctx context.Context, task string, ports []PortMapping) (Attachment, error)
	// Isolate gives the task a network namespace with loopback alone. Otherwise it
	// is as Add.
	Isolate(ctx context.Context, task string) (Attachment, error)
	// Delete removes everything that Add made; a task that has nothing is no
	// error.
	Delete(ctx context.Context, task string) error
	// GC deletes the networks of all tasks that are not in keep, and what no
	// task owns, and answers the tasks removed.
	GC(ctx context.Context, keep []string) ([]string, error)
	// Get answers what a task has; false when it has none.
	Get(task string) (Attachment, bool)
}

// PortMapping is a port to publish.
type PortMapping struct {
	// ContainerPort is where the task listens, 1 to 65535.
	ContainerPort int
	// HostPort is the port of the host; 0 takes a free one from the pool.
	HostPort int
	// Protocol is "tcp" or "udp".
	Protocol string
}

// Attachment is a task's network.
type Attachment struct {
	// NetNS is the namespace's path, for the container runtime.
	NetNS   string
	Address netip.Prefix
	Gateway netip.Addr
	MAC     string
	// Ports are the published ports, HostPort never 0.
	Ports []PortMapping
}
