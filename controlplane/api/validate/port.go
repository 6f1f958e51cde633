package validate

import (
	"fmt"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

const maxPort = 65535

// ports checks the port mappings of all containers together.
func (p *problems) ports(r *pb.RegisterTaskDefinitionRequest) {
	type hostPort struct {
		number int32
		udp    bool
	}
	taken, names := map[hostPort]string{}, map[string]bool{}
	mode := r.GetNetworkMode()
	total := 0
	for i, c := range r.GetContainerDefinitions() {
		for j, m := range c.GetPortMappings() {
			total++
			at := fmt.Sprintf("containerDefinitions[%d].portMappings[%d]", i, j)
			host := m.GetHostPort()
			switch {
			case mode == pb.NetworkMode_NETWORK_MODE_NONE:
				p.add(at, "networkMode none has no network: leave portMappings out")
				continue
			case m.ContainerPort == nil && m.GetContainerPortRange() == "":
				p.add(at+".containerPort", "required: give 1 to %d", maxPort)
			case m.ContainerPort != nil && (m.GetContainerPort() < 1 || m.GetContainerPort() > maxPort):
				p.add(at+".containerPort", "%d is not a port: give 1 to %d", m.GetContainerPort(), maxPort)
			case host < 0 || host > maxPort:
				p.add(at+".hostPort", "%d is not a port: give 1 to %d, or 0 for any that is free", host, maxPort)
			case mode == pb.NetworkMode_NETWORK_MODE_HOST && host != 0 && host != m.GetContainerPort():
				p.add(at+".hostPort", "%d differs from containerPort %d, and networkMode host maps no ports: leave it out", host, m.GetContainerPort())
			}
			if mode == pb.NetworkMode_NETWORK_MODE_HOST {
				host = m.GetContainerPort()
			}
			key := hostPort{host, m.GetProtocol() == pb.TransportProtocol_TRANSPORT_PROTOCOL_UDP}
			if first, ok := taken[key]; ok && host > 0 {
				p.add(at+".hostPort", "%d is taken by %s already: give another", host, first)
			}
			taken[key] = at
			if n := m.GetName(); n != "" && (!portNamePattern.MatchString(n) || names[n]) {
				p.add(at+".name", "%s cannot name a port: use 1 to 64 lower-case letters, digits, _ and -, each name once", quote(n))
			}
			names[m.GetName()] = true
		}
	}
	if total > maxPortMappings {
		p.add("containerDefinitions", "there are %d port mappings: at most %d are allowed", total, maxPortMappings)
	}
}
