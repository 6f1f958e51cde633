package model

import (
	"slices"
	"strconv"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func parsePort(s string, udp bool) Port {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return Port{UDP: udp}
	}
	return Port{Number: int32(n), UDP: udp}
}

// PortOf is the port that a record names.
func PortOf(p *pb.HostPort) Port {
	return Port{Number: p.GetPort(), UDP: p.GetProtocol() == pb.TransportProtocol_TRANSPORT_PROTOCOL_UDP}
}

// ComparePorts orders ports by number, TCP first.
func ComparePorts(a, b Port) int {
	if a.Number != b.Number {
		return int(a.Number) - int(b.Number)
	}
	switch {
	case a.UDP == b.UDP:
		return 0
	case b.UDP:
		return -1
	}
	return 1
}

// add is a copy of r with the task's resources added (sign 1) or taken away
// (sign -1).
func (r Resources) add(t *pb.TaskResources, sign int64) Resources {
	r.CPU += sign * t.GetCpu()
	r.Memory += sign * t.GetMemory()
	r.GPUs += sign * t.GetGpus()
	r.Tasks += int(sign)
	if len(t.GetHostPorts()) == 0 {
		return r
	}
	r.Ports = slices.Clone(r.Ports)
	for _, p := range t.GetHostPorts() {
		at, found := slices.BinarySearchFunc(r.Ports, PortOf(p), ComparePorts)
		switch {
		case sign > 0:
			r.Ports = slices.Insert(r.Ports, at, PortOf(p))
		case sign < 0 && found:
			r.Ports = slices.Delete(r.Ports, at, at+1)
		}
	}
	return r
}
