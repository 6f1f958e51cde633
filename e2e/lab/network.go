package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
)

const forwardFile = "/proc/sys/net/ipv4/ip_forward"

// program runs a program with input and answers what it said if it failed.
func program(ctx context.Context, input, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// freeSubnet answers the first of the subnets that no route or address of the
// machine touches.
func freeSubnet(candidates []netip.Prefix) (netip.Prefix, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("list routes: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("list addresses: %w", err)
	}
	var taken []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if p, err := netip.ParsePrefix(r.Dst.String()); err == nil && p.Bits() > 0 {
			taken = append(taken, p)
		}
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.IPNet.String()); err == nil {
			taken = append(taken, p.Masked())
		}
	}
	return firstFree(candidates, taken)
}

func firstFree(candidates, taken []netip.Prefix) (netip.Prefix, error) {
next:
	for _, c := range candidates {
		for _, t := range taken {
			if c.Overlaps(t) {
				continue next
			}
		}
		return c, nil
	}
	return netip.Prefix{}, fmt.Errorf("no free subnet: the machine has routes into all of %s to %s",
		candidates[0], candidates[len(candidates)-1])
}

func hostSubnets() []netip.Prefix {
	var all []netip.Prefix
	for i := range 100 {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(i), 0}), 24))
	}
	return all
}

func taskSubnets() []netip.Prefix {
	var all []netip.Prefix
	for _, i := range []byte{30, 31, 29, 28, 27, 26} {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, i, 0, 0}), 16))
	}
	return all
}

// nth answers the subnet's nth address.
func nth(subnet netip.Prefix, n int) netip.Addr {
	a := subnet.Addr().As4()
	a[3] += byte(n)
	return netip.AddrFrom4(a)
}

// makeBridge makes the hosts' bridge and lets them reach the world behind the
// machine's address. All of it is in the lab's file already.
func (l *Lab) makeBridge(ctx context.Context, subnet netip.Prefix) error {
	s := l.state
	if err := program(ctx, fmt.Sprintf(`link add %[1]s type bridge
addr add %[2]s/24 dev %[1]s
link set %[1]s up
`, s.Bridge, nth(subnet, 1)), "ip", "-batch", "-"); err != nil {
		return fmt.Errorf("make bridge %s: %w", s.Bridge, err)
	}
	if s.Forwarding {
		if err := os.WriteFile(forwardFile, []byte("1\n"), 0o644); err != nil {
			return fmt.Errorf("switch forwarding on: %w", err)
		}
	}
	if err := program(ctx, fmt.Sprintf(`table ip %[1]s {
	chain postrouting {
		type nat hook postrouting priority 100
		ip saddr %[2]s oifname != "%[3]s" masquerade
	}
	chain forward {
		type filter hook forward priority 0
		iifname != "%[3]s" oifname "%[3]s" ct state new drop
	}
}
`, s.NftTable, subnet, s.Bridge), "nft", "-f", "-"); err != nil {
		return fmt.Errorf("masquerade %s: %w", subnet, err)
	}
	if s.DockerUser {
		for _, side := range []string{"-i", "-o"} {
			if err := program(ctx, "", "iptables", "-w", "-I", "DOCKER-USER", side, s.Bridge, "-j", "ACCEPT"); err != nil {
				return fmt.Errorf("let %s through Docker's filter: %w", s.Bridge, err)
			}
		}
	}
	return nil
}

// hasDockerUser says whether Docker filters what the machine forwards.
func hasDockerUser(ctx context.Context) bool {
	return program(ctx, "", "iptables", "-w", "-S", "DOCKER-USER") == nil
}

func forwarding() bool {
	data, err := os.ReadFile(forwardFile)
	return err == nil && strings.TrimSpace(string(data)) == "1"
}

// makeNetwork makes a host's network namespace and hangs it on the bridge.
func (l *Lab) makeNetwork(ctx context.Context, h Host) error {
	subnet, err := netip.ParsePrefix(l.state.Subnet)
	if err != nil {
		return fmt.Errorf("subnet of the lab: %w", err)
	}
	if err := program(ctx, fmt.Sprintf(`netns add %[1]s
link add %[2]s type veth peer name eth0 netns %[1]s
link set %[2]s master %[3]s up
`, h.NetNS, h.Veth, l.state.Bridge), "ip", "-batch", "-"); err != nil {
		return fmt.Errorf("make the network of %s: %w", h.Name, err)
	}
	if err := program(ctx, fmt.Sprintf(`link set lo up
addr add %s/24 dev eth0
link set eth0 up
route add default via %s
`, h.Address, nth(subnet, 1)), "ip", "-n", h.NetNS, "-batch", "-"); err != nil {
		return fmt.Errorf("make the network of %s: %w", h.Name, err)
	}
	return nil
}
