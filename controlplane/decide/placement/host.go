package placement

import (
	"slices"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// host is an instance with what is left of it as the plan goes on.
type host struct {
	*model.Instance
	id             string
	cpu, mem, gpus int64
	// ports and groups are those of the tasks that this plan put here.
	ports  []model.Port
	groups []string
	// reserved are the ports that the host keeps for itself, read when a task
	// asks for a port.
	reserved  []model.Port
	available bool
	connected bool
	impaired  bool
	count     int     // tasks of the group that is being placed
	clock     float64 // for the strategy random
	leaf      *tree   // where the group's strategies put it
}

// hosts are a cluster's, by id.
func (p *planner) hosts(cluster string) []host {
	all, ok := p.clusters[cluster]
	if !ok {
		for i := range p.snapshot.Instances(cluster) {
			all = append(all, p.hostOf(i))
		}
		p.clusters[cluster] = all
	}
	return all
}

func (p *planner) hostOf(i *model.Instance) host {
	h := host{
		Instance: i, id: i.Record.GetId(), cpu: -i.Used.CPU, mem: -i.Used.Memory, gpus: -i.Used.GPUs,
		available: i.Status() == model.InstanceActive, connected: p.snapshot.Connected(i) && !i.Liveness.GetLost(),
		impaired: i.Impaired(),
	}
	for _, r := range i.Record.GetInstance().GetRegisteredResources() {
		switch r.GetName() {
		case "CPU":
			h.cpu += int64(r.GetIntegerValue())
		case "MEMORY":
			h.mem += int64(r.GetIntegerValue())
		case "GPU":
			h.gpus += int64(len(r.GetStringSetValue()))
		}
	}
	return h
}

// uses says whether the port is taken, or kept by the host for itself.
func (h *host) uses(port model.Port) bool {
	if h.reserved == nil {
		h.reserved = append([]model.Port{}, h.Registered().Ports...)
	}
	_, used := slices.BinarySearchFunc(h.Used.Ports, port, model.ComparePorts)
	return used || slices.Contains(h.ports, port) || slices.Contains(h.reserved, port)
}

// lacks is the first of the needed ports that is in use, 0 if none is.
func (h *host) lacks(need *pb.TaskResources) int32 {
	for _, p := range need.GetHostPorts() {
		if h.uses(model.PortOf(p)) {
			return p.GetPort()
		}
	}
	return 0
}

// attribute is a host's attribute; one that users set comes before the host's
// own.
func (h *host) attribute(name string) (string, bool) {
	for _, list := range [][]*pb.Attribute{h.State.GetAttributes(), h.Record.GetInstance().GetAttributes()} {
		for n := len(list) - 1; n >= 0; n-- {
			if list[n].GetName() == name {
				return list[n].GetValue(), true
			}
		}
	}
	return "", false
}

// take takes what the task needs.
func (h *host) take(r *pb.TaskRecord) {
	h.cpu -= r.GetResources().GetCpu()
	h.mem -= r.GetResources().GetMemory()
	h.gpus -= r.GetResources().GetGpus()
	for _, p := range r.GetResources().GetHostPorts() {
		h.ports = append(h.ports, model.PortOf(p))
	}
	h.groups = append(h.groups, r.GetTask().GetGroup())
}
