package resources

import (
	"testing"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func ptr[T any](v T) *T { return &v }

func TestOf(t *testing.T) {
	two := &pb.TaskDefinition{ContainerDefinitions: []*pb.ContainerDefinition{
		{Name: "a", Cpu: 100, Memory: ptr(int32(64)), MemoryReservation: ptr(int32(32)),
			PortMappings: []*pb.PortMapping{{ContainerPort: ptr(int32(80)), HostPort: ptr(int32(8080))}, {ContainerPort: ptr(int32(81))}}},
		{Name: "b", Cpu: 50, Memory: ptr(int32(16))},
	}}
	for _, c := range []struct {
		name          string
		def           *pb.TaskDefinition
		over          *pb.TaskOverride
		cpu, mem, por int64
	}{
		{"sum of containers", two, nil, 150, 48, 1},
		{"task level wins", &pb.TaskDefinition{Cpu: "0.5 vCPU", Memory: "1 GB", ContainerDefinitions: two.ContainerDefinitions}, nil, 512, 1024, 1},
		{"override of a container", two, &pb.TaskOverride{ContainerOverrides: []*pb.ContainerOverride{{Name: "b", Cpu: ptr(int32(10)), Memory: ptr(int32(20))}}}, 110, 52, 1},
		{"override of the task", two, &pb.TaskOverride{Cpu: "1 vCPU", Memory: "256"}, 1024, 256, 1},
		{"host mode takes container ports", &pb.TaskDefinition{NetworkMode: pb.NetworkMode_NETWORK_MODE_HOST, ContainerDefinitions: two.ContainerDefinitions}, nil, 150, 48, 2},
	} {
		r := Of(c.def, c.over)
		if r.GetCpu() != c.cpu || r.GetMemory() != c.mem || int64(len(r.GetHostPorts())) != c.por {
			t.Errorf("%s: %v, want cpu %d, memory %d, %d ports", c.name, r, c.cpu, c.mem, c.por)
		}
	}
}

func FuzzAmounts(f *testing.F) {
	for _, s := range []string{"", "256", "0.5 vCPU", "1 GB", "-1", "1e999 gb", "nan vcpu"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (int64, error){CPU, Memory} {
			if n, err := parse(s); err == nil && n < 0 {
				t.Errorf("%q is %d", s, n)
			}
		}
	})
}
