package runner

import (
	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/cni"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func portsOf(c *pb.ContainerDefinition) []cni.PortMapping {
	var out []cni.PortMapping
	for _, p := range c.GetPortMappings() {
		out = append(out, cni.PortMapping{ContainerPort: int(p.GetContainerPort()), HostPort: int(p.GetHostPort()), Protocol: protocol(p.GetProtocol())})
	}
	return out
}

func protocol(p pb.TransportProtocol) string {
	if p == pb.TransportProtocol_TRANSPORT_PROTOCOL_UDP {
		return "udp"
	}
	return "tcp"
}

func binding(p cni.PortMapping) *pb.NetworkBinding {
	b := &pb.NetworkBinding{BindIp: "0.0.0.0", ContainerPort: proto.Int32(int32(p.ContainerPort)), HostPort: proto.Int32(int32(p.HostPort)),
		Protocol: pb.TransportProtocol_TRANSPORT_PROTOCOL_TCP}
	if p.Protocol == "udp" {
		b.Protocol = pb.TransportProtocol_TRANSPORT_PROTOCOL_UDP
	}
	return b
}

func hostBindings(c *pb.ContainerDefinition) []*pb.NetworkBinding {
	var out []*pb.NetworkBinding
	for _, p := range c.GetPortMappings() {
		out = append(out, binding(cni.PortMapping{ContainerPort: int(p.GetContainerPort()), HostPort: int(p.GetContainerPort()), Protocol: protocol(p.GetProtocol())}))
	}
	return out
}
