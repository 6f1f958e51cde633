package cni

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// BridgeConfig is what a Bridge needs; zero values take the defaults named.
type BridgeConfig struct {
	// Name is the bridge's. "plim0".
	Name string
	// Subnet has the tasks' addresses; its first one is the bridge's own.
	// 172.30.0.0/16.
	Subnet netip.Prefix
	// NetNSDir holds the tasks' network namespaces. /run/plimsoll/netns.
	NetNSDir string
	// StateDir holds a small file for each task. /run/plimsoll/network. Like the
	// namespaces, it must not outlive a reboot.
	StateDir string
	// TableName is the nftables table's. "plimsoll".
	TableName string
	// PortRange is where published ports without a number come from, both ends
	// included. The kernel's range of local ports.
	PortRange [2]int
	// Publish are the host's addresses on which ports are published; all that
	// are local if it is zero. IPv4.
	Publish netip.Prefix
	// MTU of the tasks' links; that of the default route's link.
	MTU    int
	Logger *slog.Logger
}

// PortInUseError says that a host port cannot be published.
type PortInUseError struct {
	Port     int
	Protocol string
	// By names who has it.
	By string
}

// Error names the port and who has it.
func (e *PortInUseError) Error() string {
	return fmt.Sprintf("host port %d/%s is in use by %s", e.Port, e.Protocol, e.By)
}

// ErrNoAddress says that every address of the subnet is taken.
var ErrNoAddress = errors.New("no free address is left in the bridge's subnet")

// Bridge is bridge mode: each task has a network namespace with one end of a
// veth pair, the other end is on the bridge. It is safe for concurrent use, and
// acts on the network namespace that it was made in.
type Bridge struct {
	cfg     BridgeConfig
	nl      *netlink.Handle
	link    int // the bridge's index
	gateway netip.Addr
	nft     *rules

	mu    sync.Mutex
	tasks map[string]*record
	pool  *pool
}

// record is what a task has; it is kept as a file too.
type record struct {
	Task       string     `json:"task"`
	Attachment Attachment `json:"attachment"`
	// Ready is set once everything of the attachment exists.
	Ready bool `json:"ready"`
}

// NewBridge makes the bridge and the nftables table, or takes over what an
// earlier process left, tasks included.
func NewBridge(cfg BridgeConfig) (*Bridge, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	b := &Bridge{cfg: cfg, nl: nl, gateway: cfg.Subnet.Masked().Addr().Next(), tasks: map[string]*record{}}
	b.pool = newPool(cfg.Subnet, b.gateway, cfg.PortRange)
	for _, dir := range []string{cfg.NetNSDir, cfg.StateDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := b.ensureBridge(); err != nil {
		return nil, err
	}
	if err := b.sysctls(); err != nil {
		return nil, err
	}
	return b, b.recover()
}

func (c *BridgeConfig) complete() error {
	or := func(s *string, otherwise string) {
		if *s == "" {
			*s = otherwise
		}
	}
	or(&c.Name, "plim0")
	or(&c.NetNSDir, "/run/plimsoll/netns")
	or(&c.StateDir, "/run/plimsoll/network")
	or(&c.TableName, "plimsoll")
	if !c.Subnet.IsValid() {
		c.Subnet = netip.MustParsePrefix("172.30.0.0/16")
	}
	if !c.Subnet.Addr().Is4() || c.Subnet.Bits() > 29 {
		return fmt.Errorf("bridge subnet %s: it must be IPv4 and at least a /29", c.Subnet)
	}
	if c.Publish.IsValid() && !c.Publish.Addr().Is4() {
		return fmt.Errorf("addresses to publish on are %s: they must be IPv4", c.Publish)
	}
	if len(c.Name) >= unix.IFNAMSIZ {
		return fmt.Errorf("bridge name %q: it must have at most %d characters", c.Name, unix.IFNAMSIZ-1)
	}
	if c.PortRange == [2]int{} {
		c.PortRange = localPortRange()
	}
	if c.PortRange[0] < 1 || c.PortRange[1] > 65535 || c.PortRange[0] > c.PortRange[1] {
		return fmt.Errorf("port range %d to %d is none", c.PortRange[0], c.PortRange[1])
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (b *Bridge) ensureBridge() error {
	if b.cfg.MTU == 0 {
		b.cfg.MTU = b.defaultMTU()
	}
	link, err := b.nl.LinkByName(b.cfg.Name)
	if err != nil {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: b.cfg.Name, MTU: b.cfg.MTU}}
		if err := b.nl.LinkAdd(br); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("create bridge %s: %w", b.cfg.Name, err)
		}
		if link, err = b.nl.LinkByName(b.cfg.Name); err != nil {
			return fmt.Errorf("find bridge %s: %w", b.cfg.Name, err)
		}
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("link %s is a %s, not a bridge: choose another bridge name", b.cfg.Name, link.Type())
	}
	address := &netlink.Addr{IPNet: ipnet(netip.PrefixFrom(b.gateway, b.cfg.Subnet.Bits()))}
	if err := b.nl.AddrAdd(link, address); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("give bridge %s the address %s: %w", b.cfg.Name, b.gateway, err)
	}
	if err := b.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring bridge %s up: %w", b.cfg.Name, err)
	}
	b.link = link.Attrs().Index
	return nil
}

func (b *Bridge) defaultMTU() int {
	routes, err := b.nl.RouteGet(net.IPv4(192, 0, 2, 1))
	if err == nil && len(routes) > 0 {
		if l, err := b.nl.LinkByIndex(routes[0].LinkIndex); err == nil && l.Attrs().MTU > 0 && l.Attrs().MTU <= 9216 {
			return l.Attrs().MTU
		}
	}
	return 1500
}

// sysctls lets packets through: forwarding, and loopback's to published ports.
func (b *Bridge) sysctls() error {
	for name, value := range map[string]string{
		"net/ipv4/ip_forward":                             "1",
		"net/ipv4/conf/" + b.cfg.Name + "/route_localnet": "1",
		"net/ipv4/conf/" + b.cfg.Name + "/rp_filter":      "2",
		"net/ipv4/conf/" + b.cfg.Name + "/send_redirects": "0",
	} {
		file := filepath.Join("/proc/sys", name)
		if old, err := os.ReadFile(file); err == nil && len(old) > 0 && string(old[:len(old)-1]) == value {
			continue
		}
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set %s to %s: %w", name, value, err)
		}
	}
	return nil
}

// Get answers what a task has; false when it has none.
func (b *Bridge) Get(task string) (Attachment, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.tasks[task]
	if !ok || !r.Ready {
		return Attachment{}, false
	}
	return r.Attachment, true
}

// Add gives the task its network; see Network. A *PortInUseError names a port
// that cannot be published.
func (b *Bridge) Add(ctx context.Context, task string, ports []PortMapping) (Attachment, error) {
	if a, ok := b.Get(task); ok {
		return a, nil
	}
	if err := checkPorts(ports); err != nil {
		return Attachment{}, err
	}
	r, err := b.reserve(task, ports)
	if err != nil {
		return Attachment{}, err
	}
	return b.make(ctx, r)
}

// Isolate gives the task a namespace with loopback alone; see Network.
func (b *Bridge) Isolate(ctx context.Context, task string) (Attachment, error) {
	if a, ok := b.Get(task); ok {
		return a, nil
	}
	r := &record{Task: task, Attachment: Attachment{NetNS: filepath.Join(b.cfg.NetNSDir, task)}}
	b.mu.Lock()
	if _, ok := b.tasks[task]; ok {
		b.mu.Unlock()
		return Attachment{}, fmt.Errorf("network of %s is being made already", task)
	}
	b.tasks[task] = r
	b.mu.Unlock()
	if err := b.save(r); err != nil {
		b.forget(r)
		return Attachment{}, err
	}
	return b.make(ctx, r)
}

// make builds what was reserved, or gives it back.
func (b *Bridge) make(ctx context.Context, r *record) (Attachment, error) {
	task := r.Task
	if err := b.build(ctx, r); err != nil {
		cleanup := context.WithoutCancel(ctx)
		return Attachment{}, errors.Join(fmt.Errorf("network of %s: %w", task, err), b.Delete(cleanup, task))
	}
	b.mu.Lock()
	r.Ready = true
	b.mu.Unlock()
	if err := b.save(r); err != nil {
		return Attachment{}, errors.Join(err, b.Delete(context.WithoutCancel(ctx), task))
	}
	return r.Attachment, nil
}

// reserve takes an address and ports for the task, and notes them on disk before
// anything of it exists.
func (b *Bridge) reserve(task string, ports []PortMapping) (*record, error) {
	b.mu.Lock()
	if _, ok := b.tasks[task]; ok {
		b.mu.Unlock()
		return nil, fmt.Errorf("network of %s is being made already", task)
	}
	address, err := b.pool.address()
	if err != nil {
		b.mu.Unlock()
		return nil, err
	}
	taken, err := b.pool.ports(task, ports)
	if err != nil {
		b.pool.freeAddress(address)
		b.mu.Unlock()
		return nil, err
	}
	r := &record{Task: task, Attachment: Attachment{
		NetNS: filepath.Join(b.cfg.NetNSDir, task), Address: netip.PrefixFrom(address, b.cfg.Subnet.Bits()),
		Gateway: b.gateway, MAC: macOf(address).String(), Ports: taken,
	}}
	b.tasks[task] = r
	b.mu.Unlock()
	if err := b.save(r); err != nil {
		b.forget(r)
		return nil, err
	}
	return r, nil
}

func (b *Bridge) forget(r *record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.tasks, r.Task)
	b.pool.freeAddress(r.Attachment.Address.Addr())
	b.pool.freePorts(r.Attachment.Ports)
}

// build makes namespace, link, address, route and rules.
func (b *Bridge) build(ctx context.Context, r *record) error {
	ns, err := newNamespace(r.Attachment.NetNS)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := ctx.Err(); err != nil {
		return err
	}
	if !r.Attachment.Address.IsValid() {
		return loopback(ns)
	}
	if err := b.connect(r, ns); err != nil {
		return err
	}
	return b.nft.add(r.Attachment)
}

// connect makes the veth pair and sets the task's end up.
func (b *Bridge) connect(r *record, ns *os.File) error {
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: vethName(r.Task), MTU: b.cfg.MTU, MasterIndex: b.link},
		PeerName:  "eth0", PeerHardwareAddr: macOf(r.Attachment.Address.Addr()), PeerNamespace: netlink.NsFd(ns.Fd()),
	}
	if err := b.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("create veth %s: %w", veth.Name, err)
	}
	host, err := b.nl.LinkByName(veth.Name)
	if err != nil {
		return fmt.Errorf("find veth %s: %w", veth.Name, err)
	}
	// Tasks on one bridge reach each other, and themselves by a published port.
	if err := b.nl.LinkSetHairpin(host, true); err != nil {
		return fmt.Errorf("hairpin on %s: %w", veth.Name, err)
	}
	if err := b.nl.LinkSetUp(host); err != nil {
		return fmt.Errorf("bring %s up: %w", veth.Name, err)
	}
	return inside(ns, r.Attachment)
}

// Delete removes the task's network; see Network.
func (b *Bridge) Delete(_ context.Context, task string) error {
	b.mu.Lock()
	r := b.tasks[task]
	b.mu.Unlock()
	var errs []error
	if r != nil {
		errs = append(errs, b.nft.remove(r.Attachment))
	}
	errs = append(errs, b.deleteLink(vethName(task)), removeNamespace(filepath.Join(b.cfg.NetNSDir, task)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the network of %s: %w", task, err)
	}
	if err := os.Remove(b.stateFile(task)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the network of %s: %w", task, err)
	}
	if r != nil {
		b.forget(r)
	}
	return nil
}

func (b *Bridge) deleteLink(name string) error {
	link, err := b.nl.LinkByName(name)
	if isNotFound(err) {
		return nil
	}
	if err == nil {
		err = b.nl.LinkDel(link)
	}
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func isNotFound(err error) bool {
	var nf netlink.LinkNotFoundError
	return errors.As(err, &nf)
}

// Close lets go of the kernel's handles. With removeAll it first removes every
// task's network, the bridge and the table, so that nothing is left.
func (b *Bridge) Close(removeAll bool) error {
	var errs []error
	if removeAll {
		_, err := b.GC(context.Background(), nil)
		errs = append(errs, err, b.nft.drop(), b.deleteLink(b.cfg.Name))
	}
	b.nl.Close()
	return errors.Join(errs...)
}

// vethName is the host's end of a task's veth pair.
func vethName(task string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(task))
	return fmt.Sprintf("plm%012x", h.Sum64()&0xffffffffffff)[:15]
}

// macOf is a locally administered address made from the IPv4 address.
func macOf(a netip.Addr) net.HardwareAddr {
	v := a.As4()
	return net.HardwareAddr{0x0a, 0x58, v[0], v[1], v[2], v[3]}
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
