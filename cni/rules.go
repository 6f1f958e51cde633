package cni

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rules is the nftables table:
//
//	map tcp-ports, udp-ports { type inet_service : ipv4_addr . inet_service }
//	chain prerouting  { fib daddr type local dnat to PROTOCOL dport map @ports }
//	                    (or ip daddr PREFIX, where ports are published on some addresses)
//	chain output      { the same, for the host's own connections }
//	chain postrouting { from the subnet to elsewhere: masquerade;
//	                    from loopback to the bridge: masquerade; hairpin: masquerade }
//	chain forward     { to 169.254.169.254 from the bridge: drop;
//	                    to the bridge from elsewhere, new, to no published port: drop }
//
// A published port is an element of a map, so packets cost the same however many
// tasks there are, and a task's ports are one message to the kernel.
type rules struct {
	// mu orders messages: the library's connection keeps one batch.
	mu    sync.Mutex
	table *nftables.Table
	maps  map[string]*nftables.Set
}

// newRules makes the table, with the ports of the tasks that are there, in place
// of an earlier process's, which may be another version's. It is one transaction:
// no packet finds the table without a port that is published before and after.
func newRules(name, bridge string, subnet, publish netip.Prefix, tasks []Attachment) (*rules, error) {
	r := &rules{table: &nftables.Table{Name: name, Family: nftables.TableFamilyIPv4}, maps: map[string]*nftables.Set{}}
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	published := map[string][]nftables.SetElement{}
	for _, a := range tasks {
		for protocol, e := range elements(a) {
			published[protocol] = append(published[protocol], e...)
		}
	}
	c.AddTable(r.table)
	c.DelTable(r.table)
	c.AddTable(r.table)
	target, err := nftables.ConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	if err != nil {
		return nil, err
	}
	for _, protocol := range []string{"tcp", "udp"} {
		m := &nftables.Set{Table: r.table, Name: protocol + "-ports", IsMap: true, KeyType: nftables.TypeInetService, DataType: target}
		if err := c.AddSet(m, nil); err != nil {
			return nil, err
		}
		// A netlink message holds about 1,600 elements.
		for some := range slices.Chunk(published[protocol], 500) {
			if err := c.SetAddElements(m, some); err != nil {
				return nil, err
			}
		}
		r.maps[protocol] = m
	}
	r.nat(c, "prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, publish)
	r.nat(c, "output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest, publish)
	r.masquerade(c, bridge, subnet)
	r.closed(c, bridge)
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("make nftables table %s: %w", name, err)
	}
	return r, nil
}

func (r *rules) chain(c *nftables.Conn, name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
	return c.AddChain(&nftables.Chain{Name: name, Table: r.table, Type: kind, Hooknum: hook, Priority: priority})
}

// nat sends connections to published ports of the host to their tasks.
func (r *rules) nat(c *nftables.Conn, name string, hook *nftables.ChainHook, priority *nftables.ChainPriority, publish netip.Prefix) {
	chain := r.chain(c, name, nftables.ChainTypeNAT, hook, priority)
	to := []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
	if publish.IsValid() {
		to = matches(publish, expr.CmpOpEq, destination)
	}
	for protocol, number := range map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP} {
		c.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: append(slices.Clone(to),
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
			// The destination port, looked up: register 1 is the task's address,
			// and the one behind it (9 in steps of 4 bytes) its port.
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: protocol + "-ports", SetID: r.maps[protocol].ID},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 9},
		)})
	}
}

// Offsets in the IPv4 header.
const (
	source      = 12
	destination = 16
)

// matches compares an address of the packet with a prefix.
func matches(p netip.Prefix, op expr.CmpOp, offset uint32) []expr.Any {
	mask := make([]byte, 4)
	binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-p.Bits()))
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// device compares the packet's incoming or outgoing link with the bridge.
func device(key expr.MetaKey, op expr.CmpOp, bridge string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: ifname(bridge)}}
}

// masked compares bits of the connection's state.
func masked(key expr.CtKey, bits uint32, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: key},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: make([]byte, 4)},
	}
}

// masquerade gives tasks the host's address towards others.
func (r *rules) masquerade(c *nftables.Conn, bridge string, subnet netip.Prefix) {
	chain := r.chain(c, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	toBridge := func(op expr.CmpOp) []expr.Any { return device(expr.MetaKeyOIFNAME, op, bridge) }
	add := func(parts ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: append(slices.Concat(parts...), &expr.Masq{})})
	}
	// Out of the bridge to elsewhere.
	add(matches(subnet, expr.CmpOpEq, source), toBridge(expr.CmpOpNeq))
	// From the host's loopback to a task: the answer must find back.
	add(matches(netip.MustParsePrefix("127.0.0.0/8"), expr.CmpOpEq, source), toBridge(expr.CmpOpEq))
	// From a task to a published port of one on the same bridge.
	add(matches(subnet, expr.CmpOpEq, source), toBridge(expr.CmpOpEq), masked(expr.CtKeySTATUS, ctDNAT, expr.CmpOpNeq))
}

// Of the kernel's connection tracking: IPS_DST_NAT, and the state of a new
// connection.
const (
	ctDNAT = 1 << 5
	ctNew  = 1 << 3
)

// closed keeps tasks from the host's cloud metadata service, and others from
// tasks' ports that are not published.
func (r *rules) closed(c *nftables.Conn, bridge string) {
	chain := r.chain(c, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	drop := func(parts ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: append(slices.Concat(parts...), &expr.Verdict{Kind: expr.VerdictDrop})})
	}
	drop(device(expr.MetaKeyIIFNAME, expr.CmpOpEq, bridge), matches(netip.MustParsePrefix("169.254.169.254/32"), expr.CmpOpEq, destination))
	drop(device(expr.MetaKeyIIFNAME, expr.CmpOpNeq, bridge), device(expr.MetaKeyOIFNAME, expr.CmpOpEq, bridge),
		masked(expr.CtKeySTATE, ctNew, expr.CmpOpNeq), masked(expr.CtKeySTATUS, ctDNAT, expr.CmpOpEq))
}

// elements are a task's ports by protocol.
func elements(a Attachment) map[string][]nftables.SetElement {
	all := map[string][]nftables.SetElement{}
	for _, m := range a.Ports {
		ip := a.Address.Addr().As4()
		// A concatenation pads each part to 4 bytes.
		value := append(ip[:], byte(m.ContainerPort>>8), byte(m.ContainerPort), 0, 0)
		all[m.Protocol] = append(all[m.Protocol], nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(uint16(m.HostPort)), Val: value})
	}
	return all
}

// add publishes a task's ports. Adding them again changes nothing.
func (r *rules) add(a Attachment) error {
	return r.each(a, func(c *nftables.Conn, s *nftables.Set, e []nftables.SetElement) error { return c.SetAddElements(s, e) })
}

// remove takes a task's ports back; those that are not there are no error.
func (r *rules) remove(a Attachment) error {
	err := r.each(a, func(c *nftables.Conn, s *nftables.Set, e []nftables.SetElement) error {
		return c.SetDeleteElements(s, e)
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (r *rules) each(a Attachment, f func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	if len(a.Ports) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	for protocol, e := range elements(a) {
		if err := f(c, r.maps[protocol], e); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("published ports: %w", err)
	}
	return nil
}

// drop removes the table.
func (r *rules) drop() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.DelTable(r.table)
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove nftables table %s: %w", r.table.Name, err)
	}
	return nil
}

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
