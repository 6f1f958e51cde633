package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// explain sums up why no host takes a task: the most telling reason (of
// resources before others, then of most hosts), and all of them in words.
func (p *planner) explain(all []host, need *pb.TaskResources, c constraints) (reason, detail string) {
	if len(all) == 0 {
		return "EMPTY", "the cluster has no container instances"
	}
	sum := map[string]int{}
	// The host with most of what its reason is about.
	most := map[string]*host{}
	for i := range all {
		h := &all[i]
		r := p.refuses(h, need, c, c.members)
		sum[r]++
		if o := most[r]; o == nil || r == cpuReason && h.cpu > o.cpu || r == memReason && h.mem > o.mem || r == gpuReason && h.gpus > o.gpus {
			most[r] = h
		}
	}
	delete(sum, "")
	reasons := make([]string, 0, len(sum))
	for r := range sum {
		reasons = append(reasons, r)
	}
	rank := func(r string) int {
		switch {
		case strings.HasPrefix(r, "RESOURCE:"):
			return 0
		case r == "ATTRIBUTE" || r == "DISTINCT_INSTANCE":
			return 1
		}
		return 2
	}
	slices.SortFunc(reasons, func(a, b string) int {
		return cmp.Or(rank(a)-rank(b), sum[b]-sum[a], strings.Compare(a, b))
	})
	if len(reasons) == 0 {
		return "RESOURCE", "the hosts that were free have been taken"
	}
	words := make([]string, len(reasons))
	for i, r := range reasons {
		words[i] = fmt.Sprintf("%s on %d", r, sum[r])
	}
	detail = strings.Join(words, ", ")
	h := most[reasons[0]]
	switch reasons[0] {
	case memReason:
		detail += fmt.Sprintf("; needs %d MiB, the most free is %d on %s", need.GetMemory(), h.mem, h.id)
	case cpuReason:
		detail += fmt.Sprintf("; needs %d CPU units, the most free is %d on %s", need.GetCpu(), h.cpu, h.id)
	case gpuReason:
		detail += fmt.Sprintf("; needs %d GPUs, the most free is %d on %s", need.GetGpus(), h.gpus, h.id)
	case portReason:
		detail += fmt.Sprintf("; needs port %d", h.lacks(need))
	}
	return reasons[0], detail
}
