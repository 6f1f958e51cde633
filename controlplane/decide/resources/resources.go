package resources

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Of is what a task of the definition with the overrides takes: the task-level
// CPU and memory where they are set, else the sum of the containers' CPU units
// and of their memoryReservation (memory where there is none), and the static
// host ports.
func Of(def *pb.TaskDefinition, o *pb.TaskOverride) *pb.TaskResources {
	r := &pb.TaskResources{}
	over := map[string]*pb.ContainerOverride{}
	for _, c := range o.GetContainerOverrides() {
		over[c.GetName()] = c
	}
	for _, c := range def.GetContainerDefinitions() {
		r.Cpu += int64(pick(over[c.GetName()].GetCpu(), c.GetCpu()))
		soft := pick(over[c.GetName()].GetMemoryReservation(), c.GetMemoryReservation())
		hard := pick(over[c.GetName()].GetMemory(), c.GetMemory())
		r.Memory += int64(pick(soft, hard))
		for _, q := range c.GetResourceRequirements() {
			if n, err := strconv.ParseInt(q.GetValue(), 10, 64); err == nil && q.GetType() == pb.ResourceType_RESOURCE_TYPE_GPU {
				r.Gpus += n
			}
		}
		for _, p := range c.GetPortMappings() {
			if p.GetHostPort() > 0 {
				r.HostPorts = append(r.HostPorts, &pb.HostPort{Port: p.GetHostPort(), Protocol: p.GetProtocol()})
			} else if def.GetNetworkMode() == pb.NetworkMode_NETWORK_MODE_HOST {
				r.HostPorts = append(r.HostPorts, &pb.HostPort{Port: p.GetContainerPort(), Protocol: p.GetProtocol()})
			}
		}
	}
	if n, err := CPU(first(o.GetCpu(), def.GetCpu())); err == nil && n > 0 {
		r.Cpu = n
	}
	if n, err := Memory(first(o.GetMemory(), def.GetMemory())); err == nil && n > 0 {
		r.Memory = n
	}
	return r
}

// CPU reads a task-level CPU: units ("256") or vCPUs ("0.5 vCPU"). Empty is 0.
func CPU(s string) (int64, error) { return amount(s, 1024, "vcpu", "vcpus") }

// Memory reads a task-level memory: MiB ("512") or GB ("1 GB"). Empty is 0.
func Memory(s string) (int64, error) { return amount(s, 1024, "gb") }

func amount(s string, factor float64, units ...string) (int64, error) {
	t := strings.ToLower(strings.TrimSpace(s))
	if t == "" {
		return 0, nil
	}
	for _, u := range units {
		number, ok := strings.CutSuffix(t, u)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(f > 0 && f <= 1e6) {
			return 0, fmt.Errorf("%q is no amount", s)
		}
		return int64(math.Round(f * factor)), nil
	}
	n, err := strconv.ParseInt(t, 10, 32)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is no amount", s)
	}
	return n, nil
}

func pick(a, b int32) int32 {
	if a > 0 {
		return a
	}
	return b
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
