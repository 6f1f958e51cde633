package placement

import (
	"cmp"
	"container/heap"
	"hash/fnv"
	"math"
	"slices"
	"strings"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// defaults are the strategies of a task that has none.
var defaults = []*pb.PlacementStrategy{
	{Type: pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_SPREAD, Field: "attribute:ecs.availability-zone"},
	{Type: pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_SPREAD, Field: "instanceId"},
}

// tree is the hosts that a group's tasks may go to, arranged by the strategies:
// a branch for each spread by an attribute, hosts in a heap at the leaves.
type tree struct {
	value string
	count int // tasks of the group under it
	up    *tree
	// kids and hosts: one of them is in use.
	kids  []*tree
	hosts []*host
	less  func(a, b *host) bool
	// The root's alone.
	random *random
}

// newTree arranges the hosts that fit; held are the hosts, fitting or not, that
// have tasks of the group.
func newTree(fit, held []*host, chain []*pb.PlacementStrategy, seed uint64, salt string) *tree {
	if len(chain) == 0 {
		chain = defaults
	}
	root := &tree{}
	for _, s := range chain {
		if s.GetType() == pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_RANDOM && root.random == nil {
			f := fnv.New64a()
			_, _ = f.Write([]byte(salt))
			root.random = &random{f.Sum64() ^ seed}
			for _, h := range fit {
				h.clock = root.random.step()
			}
		}
	}
	root.grow(fit, held, chain)
	return root
}

// grow arranges the hosts under t by the rest of the chain.
func (t *tree) grow(fit, held []*host, chain []*pb.PlacementStrategy) {
	for _, h := range held {
		t.count += h.count
	}
	if len(chain) > 0 && chain[0].GetType() == pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_SPREAD {
		if name, ok := strings.CutPrefix(chain[0].GetField(), "attribute:"); ok {
			fits, helds := byAttribute(fit, name), byAttribute(held, name)
			for v, hosts := range fits {
				kid := &tree{value: v, up: t}
				kid.grow(hosts, helds[v], chain[1:])
				t.kids = append(t.kids, kid)
			}
			// Values differ, so that the order of the map does not show.
			slices.SortFunc(t.kids, func(a, b *tree) int { return strings.Compare(a.value, b.value) })
			heap.Init((*branches)(t))
			return
		}
	}
	t.hosts, t.less = fit, ordering(chain)
	for _, h := range fit {
		h.leaf = t
	}
	heap.Init((*leaf)(t))
}

func byAttribute(hosts []*host, name string) map[string][]*host {
	by := map[string][]*host{}
	for _, h := range hosts {
		v, _ := h.attribute(name)
		by[v] = append(by[v], h)
	}
	return by
}

// pick is the best host that still fits, nil if none does. Hosts that no longer
// fit are dropped: a host never gets more room in one plan.
func (t *tree) pick(fits func(*host) bool) *host {
	for len(t.kids) > 0 {
		if h := t.kids[0].pick(fits); h != nil {
			return h
		}
		heap.Pop((*branches)(t))
	}
	for len(t.hosts) > 0 {
		if fits(t.hosts[0]) {
			return t.hosts[0]
		}
		heap.Pop((*leaf)(t))
	}
	return nil
}

// placed restores the order after pick's host took a task. The host is at the
// top of its leaf, and each branch above at the top of its own.
func (t *tree) placed(h *host) {
	l := h.leaf
	if t.random != nil {
		h.clock += t.random.step()
	}
	heap.Fix((*leaf)(l), 0)
	for n := l; n != nil; n = n.up {
		n.count++
		if n.up != nil {
			heap.Fix((*branches)(n.up), 0)
		}
	}
}

// ordering compares hosts by the chain, one strategy after the other. Among
// equals the one with more memory left comes first, and then by id.
func ordering(chain []*pb.PlacementStrategy) func(a, b *host) bool {
	return func(a, b *host) bool {
		for _, s := range chain {
			c := 0
			switch {
			case s.GetType() == pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_RANDOM:
				c = cmp.Compare(a.clock, b.clock)
			case s.GetType() == pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_BINPACK && strings.EqualFold(s.GetField(), "cpu"):
				c = cmp.Compare(a.cpu, b.cpu)
			case s.GetType() == pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_BINPACK:
				c = cmp.Compare(a.mem, b.mem)
			default:
				c = cmp.Compare(a.count, b.count) // spread by host
			}
			if c != 0 {
				return c < 0
			}
		}
		return cmp.Or(cmp.Compare(b.mem, a.mem), strings.Compare(a.id, b.id)) < 0
	}
}

// random gives each host a clock that rings after times of an exponential
// distribution. As that has no memory, the host whose clock rings next is each
// time any of them with the same probability, and the heap stays ordered.
type random struct{ state uint64 }

// step is the time until a clock rings again (splitmix64).
func (r *random) step() float64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return -math.Log((float64(z>>11) + 1) / (1 << 53))
}

// leaf is a tree's hosts as a heap.
type leaf tree

func (l *leaf) Len() int           { return len(l.hosts) }
func (l *leaf) Less(i, j int) bool { return l.less(l.hosts[i], l.hosts[j]) }
func (l *leaf) Swap(i, j int)      { l.hosts[i], l.hosts[j] = l.hosts[j], l.hosts[i] }
func (l *leaf) Push(any)           {}
func (l *leaf) Pop() any {
	h := l.hosts[len(l.hosts)-1]
	l.hosts = l.hosts[:len(l.hosts)-1]
	return h
}

// branches is a tree's kids as a heap.
type branches tree

func (b *branches) Len() int { return len(b.kids) }
func (b *branches) Less(i, j int) bool {
	if b.kids[i].count != b.kids[j].count {
		return b.kids[i].count < b.kids[j].count
	}
	return b.kids[i].value < b.kids[j].value
}
func (b *branches) Swap(i, j int) { b.kids[i], b.kids[j] = b.kids[j], b.kids[i] }
func (b *branches) Push(any)      {}
func (b *branches) Pop() any {
	k := b.kids[len(b.kids)-1]
	b.kids = b.kids[:len(b.kids)-1]
	return k
}
