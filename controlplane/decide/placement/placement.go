package placement

import (
	"fmt"
	"strings"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Config is what operators may set.
type Config struct {
	// Seed makes the strategy random differ from cluster to cluster.
	Seed uint64
}

// Binding puts a task on a container instance.
type Binding struct {
	Task     *model.Task
	Instance string
}

// Failure is a task that found no host.
type Failure struct {
	Task *model.Task
	// Reason is ECS's: RESOURCE:CPU, RESOURCE:MEMORY, RESOURCE:GPU,
	// RESOURCE:PORTS, ATTRIBUTE, DISTINCT_INSTANCE, AGENT, INACTIVE, MISSING, or
	// EMPTY where the cluster has no host.
	Reason string
	// Detail counts the reasons: "RESOURCE:MEMORY on 2, AGENT on 1; ...".
	Detail string
}

// Result is a Plan's.
type Result struct {
	Bindings []Binding
	Failures []Failure
}

// Plan binds the pending tasks, in their order within each group. They need not
// be in the snapshot. No binding exceeds what its host registered or uses a
// host port twice, also together with the others.
func Plan(s *model.Snapshot, pending []*model.Task, cfg Config) Result {
	p := newPlanner(s, cfg)
	var order []string
	groups := map[string][]*model.Task{}
	for _, t := range pending {
		key := groupKey(t.Record)
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], t)
	}
	var r Result
	for _, key := range order {
		p.place(groups[key], &r)
	}
	return r
}

// Check says why the task cannot run on the instance, nil if it can. Strategies
// do not count.
func Check(s *model.Snapshot, t *model.Task, instance string) *Failure {
	i, ok := s.Instance(t.Record.GetCluster(), instance)
	if !ok {
		return &Failure{Task: t, Reason: "MISSING", Detail: "no such container instance"}
	}
	p := newPlanner(s, Config{})
	c, err := p.constraintsOf(t)
	if err != nil {
		return &Failure{Task: t, Reason: "ATTRIBUTE", Detail: err.Error()}
	}
	h := p.hostOf(i)
	if c.distinct {
		for other := range s.TasksOfInstance(t.Record.GetCluster(), instance) {
			if other.Holds() && spreadKey(other.Record) == spreadKey(t.Record) {
				h.count++
			}
		}
	}
	if reason := p.refuses(&h, t.Record.GetResources(), c, c.members); reason != "" {
		return &Failure{Task: t, Reason: reason, Detail: reason + " on " + instance}
	}
	return nil
}

// groupKey is equal for tasks that may be placed in one go.
func groupKey(r *pb.TaskRecord) string {
	var b strings.Builder
	res := r.GetResources()
	fmt.Fprintf(&b, "%s|%s|%s|%d|%d|%d|", r.GetCluster(), spreadKey(r), r.GetTask().GetTaskDefinitionArn(),
		res.GetCpu(), res.GetMemory(), res.GetGpus())
	for _, p := range res.GetHostPorts() {
		fmt.Fprintf(&b, "%d/%d,", p.GetPort(), p.GetProtocol())
	}
	for _, c := range r.GetPlacementConstraints() {
		fmt.Fprintf(&b, "|%d %s", c.GetType(), c.GetExpression())
	}
	for _, c := range r.GetPlacementStrategy() {
		fmt.Fprintf(&b, "|%d %s", c.GetType(), c.GetField())
	}
	return b.String()
}

// spreadKey names the tasks among which a task is spread: its service's, or its
// group's.
func spreadKey(r *pb.TaskRecord) string {
	if r.GetService() != "" {
		return "service:" + r.GetService()
	}
	return r.GetTask().GetGroup()
}

// planner is the state of one Plan.
type planner struct {
	snapshot *model.Snapshot
	cfg      Config
	clusters map[string][]host
	// counts are the tasks by cluster and spread key, then by instance.
	counts map[string]map[string]int
}

func newPlanner(s *model.Snapshot, cfg Config) *planner {
	return &planner{snapshot: s, cfg: cfg, clusters: map[string][]host{}, counts: map[string]map[string]int{}}
}

// place places one group.
func (p *planner) place(tasks []*model.Task, r *Result) {
	rec := tasks[0].Record
	need := rec.GetResources()
	c, err := p.constraintsOf(tasks[0])
	if err != nil {
		for _, t := range tasks {
			r.Failures = append(r.Failures, Failure{t, "ATTRIBUTE", err.Error()})
		}
		return
	}
	all := p.hosts(rec.GetCluster())
	counts := p.countsOf(rec)
	fit := make([]*host, 0, len(all))
	var held []*host
	for i := range all {
		h := &all[i]
		if h.count = counts[h.id]; h.count > 0 {
			held = append(held, h)
		}
		if p.refuses(h, need, c, c.members) == "" {
			fit = append(fit, h)
		}
	}
	tree := newTree(fit, held, rec.GetPlacementStrategy(), p.cfg.Seed, rec.GetId())
	// What a host's attributes say does not change while tasks are placed.
	changing := c.changing()
	fits := func(h *host) bool { return p.refuses(h, need, c, changing) == "" }
	for n, t := range tasks {
		h := tree.pick(fits)
		if h == nil {
			reason, detail := p.explain(all, need, c)
			for _, t := range tasks[n:] {
				r.Failures = append(r.Failures, Failure{t, reason, detail})
			}
			return
		}
		h.take(rec)
		h.count++
		counts[h.id]++
		tree.placed(h)
		r.Bindings = append(r.Bindings, Binding{t, h.id})
	}
}

// countsOf is how many tasks each instance has among those that this one is
// spread with.
func (p *planner) countsOf(r *pb.TaskRecord) map[string]int {
	key := r.GetCluster() + "|" + spreadKey(r)
	if c, ok := p.counts[key]; ok {
		return c
	}
	c := map[string]int{}
	tasks := p.snapshot.Tasks(r.GetCluster())
	if r.GetService() != "" {
		tasks = p.snapshot.TasksOfService(r.GetCluster(), r.GetService())
	}
	for t := range tasks {
		if t.Holds() && spreadKey(t.Record) == spreadKey(r) {
			c[t.Record.GetInstance()]++
		}
	}
	p.counts[key] = c
	return c
}
