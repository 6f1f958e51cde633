package node

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestHello(t *testing.T) {
	c := Config{Version: "v1.2.3", Servers: []string{"127.0.0.1:7400"}, Hostname: "h", AvailabilityZone: "zone-1", CPU: 2048, Memory: 4096, ReservedMemory: 96,
		Attributes: []string{"disk=ssd", "ecs.instance-type=big", "empty="}}
	h, err := hello(c, "containerd 1.6")
	if err != nil {
		t.Fatal(err)
	}
	if h.GetHostname() != "h" || h.GetVersionInfo().GetAgentVersion() != "1.2.3" || h.GetVersionInfo().GetDockerVersion() != "containerd 1.6" {
		t.Errorf("hello is %v", h)
	}
	resources := map[string]*pb.Resource{}
	for _, r := range h.GetResources() {
		resources[r.GetName()] = r
	}
	if resources["CPU"].GetIntegerValue() != 2048 || resources["MEMORY"].GetIntegerValue() != 4000 ||
		strings.Join(resources["PORTS"].GetStringSetValue(), " ") != "22 2375 2376 51678 51679" {
		t.Errorf("the resources are %v", resources)
	}
	attributes := map[string]string{}
	for _, a := range h.GetAttributes() {
		if _, twice := attributes[a.GetName()]; twice {
			t.Errorf("attribute %s is there twice", a.GetName())
		}
		attributes[a.GetName()] = a.GetValue()
	}
	for name, want := range map[string]string{
		"ecs.os-type": "linux", "ecs.availability-zone": "zone-1", "disk": "ssd", "ecs.instance-type": "big", "empty": "",
		"plimsoll.host-address": "127.0.0.1",
	} {
		if got, ok := attributes[name]; !ok || got != want {
			t.Errorf("attribute %s is %q, want %q", name, got, want)
		}
	}
}

func TestHelloOfThisHost(t *testing.T) {
	h, err := hello(Config{Servers: []string{"127.0.0.1:7400"}}, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := h.GetResources()[0].GetIntegerValue(), int32(1024*runtime.NumCPU()); got != want {
		t.Errorf("CPU is %d, want %d", got, want)
	}
	if got := h.GetResources()[1].GetIntegerValue(); got < 16 {
		t.Errorf("memory is %d MiB", got)
	}
	if _, err := hello(Config{Servers: []string{"127.0.0.1:7400"}, Memory: 100, ReservedMemory: 100}, ""); err == nil {
		t.Error("a host without memory for tasks is taken")
	}
}

func TestTotalMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(file, []byte("MemFree: 1 kB\nMemTotal:        8388608 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := totalMemory(file); err != nil || got != 8192 {
		t.Errorf("%d MiB, %v", got, err)
	}
}

func TestConfig(t *testing.T) {
	good := Config{Servers: []string{"h:7400"}, DataDir: "/d", RuntimeDir: "/r", BridgeSubnet: "172.30.0.0/16"}
	for _, c := range []struct {
		name, want string
		change     func(*Config)
	}{
		{"as it is", "", func(*Config) {}},
		{"no server", "--server", func(c *Config) { c.Servers = nil }},
		{"server without a port", "--server", func(c *Config) { c.Servers = []string{"h"} }},
		{"no directory", "--data-dir", func(c *Config) { c.DataDir = "" }},
		{"no prefix to publish on", "--publish", func(c *Config) { c.Publish = "10.0.0.1" }},
		{"no subnet", "--bridge-subnet", func(c *Config) { c.BridgeSubnet = "172.30" }},
		{"negative memory", "--memory", func(c *Config) { c.Memory = -1 }},
		{"attribute without a value", "--attribute", func(c *Config) { c.Attributes = []string{"x"} }},
		{"negative launches", "--max-launches", func(c *Config) { c.MaxLaunches = -1 }},
	} {
		cfg := good
		c.change(&cfg)
		err := cfg.complete()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
