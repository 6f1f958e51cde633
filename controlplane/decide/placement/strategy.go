package placement

import (
	"cmp"
	"container/heap"
	"hash/fnv"
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
	leafs map[*host]*tree // the root's
}

func newTree(hosts []*host, chain []*pb.PlacementStrategy, seed uint64, salt string) *tree {
	if len(chain) == 0 {
		chain = defaults
	}
	for _, s := range chain {
		if s.GetType() == pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_RANDOM {
			for _, h := range hosts {
				f := fnv.New64a()
				_, _ = f.Write([]byte(salt + h.id))
				h.hash = f.Sum64() ^ seed
			}
		}
	}
	root := &tree{leafs: map[*host]*tree{}}
	root.grow(hosts, chain, root)
	return root
}

// grow arranges the hosts under t by the rest of the chain.
func (t *tree) grow(hosts []*host, chain []*pb.PlacementStrategy, root *tree) {
	for _, h := range hosts {
		t.count += h.count
	}
	if len(chain) > 0 && chain[0].GetType() == pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_SPREAD {
		if name, ok := strings.CutPrefix(chain[0].GetField(), "attribute:"); ok {
			byValue := map[string][]*host{}
			var values []string
			for _, h := range hosts {
				v, _ := h.attribute(name)
				if byValue[v] == nil {
					values = append(values, v)
				}
				byValue[v] = append(byValue[v], h)
			}
			for _, v := range values {
				kid := &tree{value: v, up: t}
				kid.grow(byValue[v], chain[1:], root)
				t.kids = append(t.kids, kid)
			}
			heap.Init((*branches)(t))
			return
		}
	}
	t.hosts, t.less = hosts, ordering(chain)
	for _, h := range hosts {
		root.leafs[h] = t
	}
	heap.Init((*leaf)(t))
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
	l := t.leafs[h]
	heap.Fix((*leaf)(l), 0)
	for n := l; n != nil; n = n.up {
		n.count++
		if n.up != nil {
			heap.Fix((*branches)(n.up), 0)
		}
	}
}

// ordering compares hosts by the chain, one strategy after the other, and by id
// at the end.
func ordering(chain []*pb.PlacementStrategy) func(a, b *host) bool {
	return func(a, b *host) bool {
		for _, s := range chain {
			c := 0
			switch {
			case s.GetType() == pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_RANDOM:
				c = cmp.Compare(a.hash, b.hash)
			case s.GetType() == pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_BINPACK && strings.EqualFold(s.GetField(), "cpu"):
				c = cmp.Compare(a.cpu, b.cpu)
			case s.GetType() == pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_BINPACK:
				c = cmp.Compare(a.mem, b.mem)
			default:
				// Spread by host. Among equals the one with more room.
				c = cmp.Or(cmp.Compare(a.count, b.count), cmp.Compare(b.mem, a.mem))
			}
			if c != 0 {
				return c < 0
			}
		}
		return a.id < b.id
	}
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
