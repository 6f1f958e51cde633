package cni

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
)

// pool gives addresses and ports out. Its user holds the lock.
type pool struct {
	subnet   netip.Prefix
	gateway  netip.Addr
	last     netip.Addr // the address given out last
	used     map[netip.Addr]bool
	span     [2]int
	lastPort int
	taken    map[PortMapping]string // by HostPort and Protocol: the task
}

func newPool(subnet netip.Prefix, gateway netip.Addr, span [2]int) *pool {
	return &pool{subnet: subnet.Masked(), gateway: gateway, last: gateway, used: map[netip.Addr]bool{gateway: true},
		span: span, lastPort: span[0] - 1, taken: map[PortMapping]string{}}
}

// address is the next free one, round robin, so that one that was just freed
// rests as long as it can.
func (p *pool) address() (netip.Addr, error) {
	start := p.last
	for a := start.Next(); ; a = a.Next() {
		if !p.subnet.Contains(a) || !p.subnet.Contains(a.Next()) { // the last one is for broadcasts
			a = p.subnet.Addr()
		}
		if a != p.subnet.Addr() && !p.used[a] {
			p.used[a], p.last = true, a
			return a, nil
		}
		if a == start {
			return netip.Addr{}, ErrNoAddress
		}
	}
}

func (p *pool) freeAddress(a netip.Addr) { delete(p.used, a) }

func portKey(m PortMapping) PortMapping {
	return PortMapping{HostPort: m.HostPort, Protocol: m.Protocol}
}

// ports takes all of the wanted ports, or none.
func (p *pool) ports(task string, want []PortMapping) ([]PortMapping, error) {
	var got []PortMapping
	for _, m := range want {
		var err error
		if m.HostPort == 0 {
			m.HostPort, err = p.free(m.Protocol)
		} else if by := p.taken[portKey(m)]; by != "" {
			err = &PortInUseError{m.HostPort, m.Protocol, "task " + by}
		} else if !unused(m.HostPort, m.Protocol) {
			err = &PortInUseError{m.HostPort, m.Protocol, "a process of the host"}
		}
		if err != nil {
			p.freePorts(got)
			return nil, err
		}
		p.taken[portKey(m)] = task
		got = append(got, m)
	}
	return got, nil
}

// free finds a port that nobody has, round robin.
func (p *pool) free(protocol string) (int, error) {
	for range p.span[1] - p.span[0] + 1 {
		if p.lastPort++; p.lastPort > p.span[1] {
			p.lastPort = p.span[0]
		}
		if p.taken[PortMapping{HostPort: p.lastPort, Protocol: protocol}] == "" && unused(p.lastPort, protocol) {
			return p.lastPort, nil
		}
	}
	return 0, fmt.Errorf("no free %s port is left from %d to %d", protocol, p.span[0], p.span[1])
}

func (p *pool) freePorts(ports []PortMapping) {
	for _, m := range ports {
		delete(p.taken, portKey(m))
	}
}

// unused says whether no process of the host listens on the port.
func unused(port int, protocol string) bool {
	if protocol == "udp" {
		c, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func checkPorts(ports []PortMapping) error {
	for _, m := range ports {
		switch {
		case m.ContainerPort < 1 || m.ContainerPort > 65535:
			return fmt.Errorf("container port %d: it must be from 1 to 65535", m.ContainerPort)
		case m.HostPort < 0 || m.HostPort > 65535:
			return fmt.Errorf("host port %d: it must be from 0 to 65535", m.HostPort)
		case m.Protocol != "tcp" && m.Protocol != "udp":
			return fmt.Errorf("protocol %q: it must be tcp or udp", m.Protocol)
		}
	}
	return nil
}

// localPortRange is the kernel's, 32768 to 60999 if it does not say.
func localPortRange() [2]int {
	r := [2]int{32768, 60999}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(strings.TrimSpace(string(b)), &r[0], &r[1])
	}
	return r
}
