package node

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// reservedPorts are kept from tasks, as ECS's agent does.
var reservedPorts = []string{"22", "2375", "2376", "51678", "51679"}

// capabilities are what the agent can do, by ECS's names.
var capabilities = []string{
	"com.amazonaws.ecs.capability.docker-remote-api.1.18",
	"com.amazonaws.ecs.capability.docker-remote-api.1.19",
	"com.amazonaws.ecs.capability.docker-remote-api.1.21",
	"com.amazonaws.ecs.capability.logging-driver.json-file",
	"com.amazonaws.ecs.capability.logging-driver.awslogs",
	"ecs.capability.container-ordering",
}

// hello describes the host.
func hello(c Config, runtimeVersion string) (*pb.Hello, error) {
	cpu, memory := c.CPU, c.Memory
	if cpu == 0 {
		cpu = 1024 * int64(runtime.NumCPU())
	}
	if memory == 0 {
		total, err := totalMemory("/proc/meminfo")
		if err != nil {
			return nil, err
		}
		memory = total
	}
	if memory -= c.ReservedMemory; memory <= 0 {
		return nil, fmt.Errorf("--reserved-memory is %d: nothing is left for tasks", c.ReservedMemory)
	}
	attributes, err := attributesOf(c)
	if err != nil {
		return nil, err
	}
	return &pb.Hello{
		Hostname: c.Hostname, Attributes: attributes,
		VersionInfo: &pb.VersionInfo{AgentVersion: strings.TrimPrefix(c.Version, "v"), DockerVersion: runtimeVersion},
		Resources: []*pb.Resource{
			{Name: "CPU", Type: "INTEGER", IntegerValue: int32(cpu)},
			{Name: "MEMORY", Type: "INTEGER", IntegerValue: int32(memory)},
			{Name: "PORTS", Type: "STRINGSET", StringSetValue: reservedPorts},
			{Name: "PORTS_UDP", Type: "STRINGSET"},
		},
	}, nil
}

// attributesOf are the built-in attributes, the capabilities, and the operator's
// own.
func attributesOf(c Config) ([]*pb.Attribute, error) {
	arch := map[string]string{"amd64": "x86_64", "arm64": "arm64"}[runtime.GOARCH]
	var out []*pb.Attribute
	set := func(name, value string) {
		out = slices.DeleteFunc(out, func(a *pb.Attribute) bool { return a.GetName() == name })
		out = append(out, &pb.Attribute{Name: name, Value: value})
	}
	set("ecs.os-type", "linux")
	set("ecs.os-family", "LINUX")
	set("ecs.cpu-architecture", arch)
	set("ecs.availability-zone", c.AvailabilityZone)
	if address := sourceAddress(c.Servers[0]); address != "" {
		set("plimsoll.host-address", address)
	}
	for _, name := range capabilities {
		set(name, "")
	}
	for _, a := range c.Attributes {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--attribute is %q: it must be NAME=VALUE", a)
		}
		set(name, value)
	}
	return out, nil
}

// sourceAddress is the address from which the host reaches the server: where
// others reach the host's published ports.
func sourceAddress(server string) string {
	c, err := net.Dial("udp", server) // sends nothing
	if err != nil {
		return ""
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP.String()
}

// totalMemory is MemTotal in MiB.
func totalMemory(file string) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(s.Text(), "MemTotal: %d kB", &kib); n == 1 {
			return kib / 1024, nil
		}
	}
	return 0, fmt.Errorf("%s has no MemTotal", file)
}
