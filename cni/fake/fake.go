package fake

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/plimsoll-project/plimsoll/cni"
)

// firstPort is the first that a published port without a number gets.
const firstPort = 32768

// Network is the fake. It is safe for concurrent use.
type Network struct {
	mu       sync.Mutex
	tasks    map[string]cni.Attachment
	ports    map[string]string // "port/protocol" to task
	last     netip.Addr
	nextPort int
	failAdd  []error
}

var _ cni.Network = (*Network)(nil)

// New answers a network that nobody has joined.
func New() *Network {
	return &Network{tasks: map[string]cni.Attachment{}, ports: map[string]string{}, last: netip.MustParseAddr("172.30.0.1"), nextPort: firstPort}
}

// FailNext makes the next Add or Isolate fail; several errors queue up.
func (n *Network) FailNext(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failAdd = append(n.failAdd, err)
}

// Tasks are the tasks that have a network, sorted.
func (n *Network) Tasks() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.tasks))
}

// Add implements cni.Network.
func (n *Network) Add(ctx context.Context, task string, ports []cni.PortMapping) (cni.Attachment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.tasks[task]; ok {
		return a, nil
	}
	if err := n.fault(ctx, task); err != nil {
		return cni.Attachment{}, err
	}
	for _, p := range ports {
		if by, taken := n.ports[key(p)]; taken && p.HostPort != 0 {
			return cni.Attachment{}, &cni.PortInUseError{Port: p.HostPort, Protocol: p.Protocol, By: by}
		}
	}
	n.last = n.last.Next()
	a := cni.Attachment{
		NetNS: "/run/fake/netns/" + task, Address: netip.PrefixFrom(n.last, 16), Gateway: netip.MustParseAddr("172.30.0.1"),
		MAC: "02:00:00:00:00:01", Ports: slices.Clone(ports),
	}
	for i := range a.Ports {
		if a.Ports[i].HostPort == 0 {
			a.Ports[i].HostPort = n.nextPort
			n.nextPort++
		}
		n.ports[key(a.Ports[i])] = task
	}
	n.tasks[task] = a
	return a, nil
}

// Isolate implements cni.Network.
func (n *Network) Isolate(ctx context.Context, task string) (cni.Attachment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.tasks[task]; ok {
		return a, nil
	}
	if err := n.fault(ctx, task); err != nil {
		return cni.Attachment{}, err
	}
	n.tasks[task] = cni.Attachment{NetNS: "/run/fake/netns/" + task}
	return n.tasks[task], nil
}

// Delete implements cni.Network.
func (n *Network) Delete(_ context.Context, task string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.tasks[task].Ports {
		delete(n.ports, key(p))
	}
	delete(n.tasks, task)
	return nil
}

// GC implements cni.Network.
func (n *Network) GC(ctx context.Context, keep []string) ([]string, error) {
	var removed []string
	for _, task := range n.Tasks() {
		if slices.Contains(keep, task) {
			continue
		}
		if err := n.Delete(ctx, task); err != nil {
			return removed, err
		}
		removed = append(removed, task)
	}
	return removed, nil
}

// Get implements cni.Network.
func (n *Network) Get(task string) (cni.Attachment, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.tasks[task]
	return a, ok
}

func (n *Network) fault(ctx context.Context, task string) error {
	if len(n.failAdd) > 0 {
		err := n.failAdd[0]
		n.failAdd = n.failAdd[1:]
		return fmt.Errorf("connect %s: %w", task, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("connect %s: %w", task, err)
	}
	return nil
}

func key(p cni.PortMapping) string { return fmt.Sprintf("%d/%s", p.HostPort, p.Protocol) }
