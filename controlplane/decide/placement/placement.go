package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"time"
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
	// RESOURCE:PORTS, ATTRIBUTE, AGENT, or EMPTY where the cluster has no host.
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
	p := &planner{snapshot: s, cfg: cfg, clusters: map[string][]*host{}, counts: map[string]map[string]int{}}
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
	p := &planner{snapshot: s, counts: map[string]map[string]int{}}
	c, err := p.constraintsOf(t)
	if err != nil {
		return &Failure{Task: t, Reason: "ATTRIBUTE", Detail: err.Error()}
	}
	if reason := p.refuses(p.hostOf(i), t.Record.GetResources(), c); reason != "" {
		return &Failure{Task: t, Reason: reason, Detail: reason + " on " + instance}
	}
	return nil
}

// batchSize bounds the tasks that are bound in one transaction.
const batchSize = 90

// Writes is the plan that stores a result: the bound tasks, and the others'
// reasons where they changed.
func Writes(s *model.Snapshot, r Result, _ time.Time) model.Plan {
	var writes model.Batch
	for _, b := range r.Bindings {
		rec := proto.CloneOf(b.Task.Record)
		rec.Instance, rec.PlacementFailure = b.Instance, ""
		if i, ok := s.Instance(rec.GetCluster(), b.Instance); ok {
			rec.Task.ContainerInstanceArn = i.Record.GetInstance().GetContainerInstanceArn()
		}
		writes = append(writes, model.Write{Key: b.Task.Key(), Value: rec, If: b.Task.RecordRevision})
	}
	for _, f := range r.Failures {
		if f.Task.Record.GetPlacementFailure() == f.Detail {
			continue
		}
		rec := proto.CloneOf(f.Task.Record)
		rec.PlacementFailure = f.Detail
		writes = append(writes, model.Write{Key: f.Task.Key(), Value: rec, If: f.Task.RecordRevision})
	}
	var plan model.Plan
	for chunk := range slices.Chunk(writes, batchSize) {
		plan.Batches = append(plan.Batches, chunk)
	}
	return plan
}

// groupKey is equal for tasks that may be placed in one go.
func groupKey(r *pb.TaskRecord) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s|%s|%s|", r.GetCluster(), spreadKey(r), r.GetTask().GetTaskDefinitionArn())
	res := r.GetResources()
	fmt.Fprintf(&b, "%d|%d|%d|", res.GetCpu(), res.GetMemory(), res.GetGpus())
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
	clusters map[string][]*host
	// counts are the tasks by cluster and spread key, then by instance.
	counts map[string]map[string]int
}

// host is an instance with what is left of it as the plan goes on.
type host struct {
	*model.Instance
	id             string
	cpu, mem, gpus int64
	ports          map[model.Port]bool
	attributes     map[string]string
	available      bool
	connected      bool
	count          int    // tasks of the group that is being placed
	hash           uint64 // for the strategy random
}

func (p *planner) hosts(cluster string) []*host {
	all, ok := p.clusters[cluster]
	if !ok {
		for i := range p.snapshot.Instances(cluster) {
			all = append(all, p.hostOf(i))
		}
		p.clusters[cluster] = all
	}
	return all
}

func (p *planner) hostOf(i *model.Instance) *host {
	reg := i.Registered()
	h := &host{
		Instance: i, id: i.Record.GetId(), cpu: reg.CPU - i.Used.CPU, mem: reg.Memory - i.Used.Memory, gpus: reg.GPUs - i.Used.GPUs,
		available: i.Status() == model.InstanceActive, connected: p.snapshot.Connected(i) && !i.Liveness.GetLost(),
	}
	h.ports = make(map[model.Port]bool, len(reg.Ports)+len(i.Used.Ports))
	for _, port := range append(reg.Ports, i.Used.Ports...) {
		h.ports[port] = true
	}
	return h
}

// attribute is a host's attribute; built-in and custom ones alike.
func (h *host) attribute(name string) (string, bool) {
	if h.attributes == nil {
		h.attributes = map[string]string{}
		for _, a := range h.Attributes() {
			h.attributes[a.GetName()] = a.GetValue()
		}
	}
	v, ok := h.attributes[name]
	return v, ok
}

func (h *host) take(r *pb.TaskResources) {
	h.cpu -= r.GetCpu()
	h.mem -= r.GetMemory()
	h.gpus -= r.GetGpus()
	for _, p := range r.GetHostPorts() {
		h.ports[model.PortOf(p)] = true
	}
}

// place places one group.
func (p *planner) place(tasks []*model.Task, r *Result) {
	first := tasks[0]
	rec := first.Record
	c, err := p.constraintsOf(first)
	if err != nil {
		for _, t := range tasks {
			r.Failures = append(r.Failures, Failure{t, "ATTRIBUTE", err.Error()})
		}
		return
	}
	all := p.hosts(rec.GetCluster())
	counts := p.countsOf(rec)
	var fit []*host
	for _, h := range all {
		h.count = counts[h.id]
		if p.refuses(h, rec.GetResources(), c) == "" {
			fit = append(fit, h)
		}
	}
	tree := newTree(fit, rec.GetPlacementStrategy(), p.cfg.Seed, rec.GetId())
	for n, t := range tasks {
		h := tree.pick(func(h *host) bool { return p.refuses(h, rec.GetResources(), c) == "" })
		if h == nil {
			reason, detail := p.explain(all, rec.GetResources(), c)
			for _, t := range tasks[n:] {
				r.Failures = append(r.Failures, Failure{t, reason, detail})
			}
			return
		}
		h.take(rec.GetResources())
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

// explain sums up why no host takes a task: the reason of most hosts, those of
// resources first, and all of them in words.
func (p *planner) explain(all []*host, need *pb.TaskResources, c constraints) (reason, detail string) {
	if len(all) == 0 {
		return "EMPTY", "the cluster has no container instances"
	}
	sum := map[string]int{}
	var mostCPU, mostMem *host
	for _, h := range all {
		sum[p.refuses(h, need, c)]++
		if h.available && h.connected {
			if mostCPU == nil || h.cpu > mostCPU.cpu {
				mostCPU = h
			}
			if mostMem == nil || h.mem > mostMem.mem {
				mostMem = h
			}
		}
	}
	delete(sum, "")
	reasons := make([]string, 0, len(sum))
	for r := range sum {
		reasons = append(reasons, r)
	}
	slices.SortFunc(reasons, func(a, b string) int {
		if x, y := strings.HasPrefix(a, "RESOURCE"), strings.HasPrefix(b, "RESOURCE"); x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Or(sum[b]-sum[a], strings.Compare(a, b))
	})
	var words []string
	for _, r := range reasons {
		words = append(words, fmt.Sprintf("%s on %d", r, sum[r]))
	}
	detail = strings.Join(words, ", ")
	if len(reasons) == 0 {
		return "RESOURCE", detail
	}
	switch reasons[0] {
	case "RESOURCE:MEMORY":
		detail += fmt.Sprintf("; needs %d MiB, the most free is %d on %s", need.GetMemory(), mostMem.mem, mostMem.id)
	case "RESOURCE:CPU":
		detail += fmt.Sprintf("; needs %d CPU units, the most free is %d on %s", need.GetCpu(), mostCPU.cpu, mostCPU.id)
	}
	return reasons[0], detail
}
