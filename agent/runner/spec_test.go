package runner

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

const specTask = "0123456789abcdef0123456789abcdef"

func assignment(def *pb.TaskDefinition, o *pb.TaskOverride) *pb.Assignment {
	def.Family, def.Revision = "web", 3
	return &pb.Assignment{TaskId: specTask, TaskDefinition: def,
		Task: &pb.Task{TaskArn: "arn:task/" + specTask, ClusterArn: "arn:cluster/default", Overrides: o}}
}

func TestSpecOf(t *testing.T) {
	facts := Facts{Hostname: "host-1", Files: "/f", LogPath: "/l/app.log", NetNS: "/n", Address: "172.30.0.2"}
	// base is what a container with nothing but name and image gets.
	base := func() runtime.Spec {
		shares := uint64(2)
		return runtime.Spec{
			ID: specTask + "-app", Image: "img@sha256:1", LogPath: "/l/app.log", NetNS: "/n", Hostname: "0123456789ab",
			Labels: map[string]string{
				"com.amazonaws.ecs.task-arn": "arn:task/" + specTask, "com.amazonaws.ecs.container-name": "app",
				"com.amazonaws.ecs.task-definition-family": "web", "com.amazonaws.ecs.task-definition-version": "3",
				"com.amazonaws.ecs.cluster": "arn:cluster/default", "plimsoll.task": specTask,
			},
			Process: runtime.Process{Env: []string{"HOSTNAME=0123456789ab", "AWS_EXECUTION_ENV=AWS_ECS_EC2", "PLIMSOLL_TASK_ARN=arn:task/" + specTask, "PLIMSOLL_HOST=host-1"}},
			Mounts: []specs.Mount{
				{Destination: "/etc/hosts", Type: "bind", Source: "/f/hosts", Options: []string{"rbind", "rw"}},
				{Destination: "/etc/hostname", Type: "bind", Source: "/f/hostname", Options: []string{"rbind", "rw"}},
				{Destination: "/etc/resolv.conf", Type: "bind", Source: "/f/resolv.conf", Options: []string{"rbind", "rw"}},
			},
			Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}, Memory: &specs.LinuxMemory{}},
		}
	}
	shares := func(n uint64) func(*runtime.Spec) {
		return func(s *runtime.Spec) { s.Resources.CPU.Shares = &n }
	}
	limit := func(mib int64) func(*runtime.Spec) {
		return func(s *runtime.Spec) { mib <<= 20; s.Resources.Memory.Limit = &mib }
	}
	mount := func(m specs.Mount) func(*runtime.Spec) {
		return func(s *runtime.Spec) { s.Mounts = append(s.Mounts, m) }
	}
	override := func(o *pb.ContainerOverride) *pb.TaskOverride {
		o.Name = "app"
		return &pb.TaskOverride{ContainerOverrides: []*pb.ContainerOverride{{Name: "other", Command: []string{"no"}}, o}}
	}
	for _, c := range []struct {
		name string
		c    *pb.ContainerDefinition
		def  *pb.TaskDefinition
		over *pb.TaskOverride
		want []func(*runtime.Spec)
	}{
		{name: "nothing set"},
		{name: "cpu units are shares", c: &pb.ContainerDefinition{Cpu: 512}, want: []func(*runtime.Spec){shares(512)}},
		{name: "an override's cpu counts", c: &pb.ContainerDefinition{Cpu: 512}, over: override(&pb.ContainerOverride{Cpu: proto.Int32(64)}), want: []func(*runtime.Spec){shares(64)}},
		{name: "the task's cpu is the container's that has none", def: &pb.TaskDefinition{Cpu: "0.5 vCPU"}, want: []func(*runtime.Spec){shares(512)}},
		{name: "as far as others leave some", def: &pb.TaskDefinition{Cpu: "1024", ContainerDefinitions: []*pb.ContainerDefinition{{Name: "x", Cpu: 256}, {Name: "y"}}}, want: []func(*runtime.Spec){shares(384)}},
		{name: "memory is the hard limit", c: &pb.ContainerDefinition{Memory: proto.Int32(128)}, want: []func(*runtime.Spec){limit(128)}},
		{name: "an override's memory counts", c: &pb.ContainerDefinition{Memory: proto.Int32(128)}, over: override(&pb.ContainerOverride{Memory: proto.Int32(256)}), want: []func(*runtime.Spec){limit(256)}},
		{name: "the task's memory limits a container without a limit", def: &pb.TaskDefinition{Memory: "1 GB"}, want: []func(*runtime.Spec){limit(1024)}},
		{name: "the task's overridden memory", def: &pb.TaskDefinition{Memory: "1 GB"}, over: &pb.TaskOverride{Memory: "2048"}, want: []func(*runtime.Spec){limit(2048)}},
		{name: "memoryReservation is the soft limit", c: &pb.ContainerDefinition{MemoryReservation: proto.Int32(64)},
			want: []func(*runtime.Spec){func(s *runtime.Spec) { n := int64(64 << 20); s.Resources.Memory.Reservation = &n }}},
		{name: "entry point and command", c: &pb.ContainerDefinition{EntryPoint: []string{"/e"}, Command: []string{"a", "b"}},
			want: []func(*runtime.Spec){func(s *runtime.Spec) {
				s.Process.Entrypoint, s.Process.Command = []string{"/e"}, []string{"a", "b"}
			}}},
		{name: "an override's command counts", c: &pb.ContainerDefinition{Command: []string{"a"}}, over: override(&pb.ContainerOverride{Command: []string{"z"}}),
			want: []func(*runtime.Spec){func(s *runtime.Spec) { s.Process.Command = []string{"z"} }}},
		{name: "environment: the override wins over the definition",
			c:    &pb.ContainerDefinition{Environment: []*pb.KeyValuePair{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}},
			over: override(&pb.ContainerOverride{Environment: []*pb.KeyValuePair{{Name: "A", Value: "9"}, {Name: "AB", Value: ""}}}),
			want: []func(*runtime.Spec){func(s *runtime.Spec) { s.Process.Env = append(s.Process.Env, "B=2", "A=9", "AB=") }}},
		{name: "process", c: &pb.ContainerDefinition{User: "1000:app", WorkingDirectory: "/w", ReadonlyRootFilesystem: proto.Bool(true)},
			want: []func(*runtime.Spec){func(s *runtime.Spec) {
				s.Process.User, s.Process.WorkingDir, s.ReadonlyRootfs = "1000:app", "/w", true
			}}},
		{name: "host name", c: &pb.ContainerDefinition{Hostname: "db"}, want: []func(*runtime.Spec){func(s *runtime.Spec) { s.Hostname = "db"; s.Process.Env[0] = "HOSTNAME=db" }}},
		{name: "the host's name in host mode", def: &pb.TaskDefinition{NetworkMode: pb.NetworkMode_NETWORK_MODE_HOST},
			want: []func(*runtime.Spec){func(s *runtime.Spec) { s.Hostname = "host-1"; s.Process.Env[0] = "HOSTNAME=host-1" }}},
		{name: "labels", c: &pb.ContainerDefinition{DockerLabels: map[string]string{"team": "a", "com.amazonaws.ecs.cluster": "forged"}},
			want: []func(*runtime.Spec){func(s *runtime.Spec) { s.Labels["team"] = "a" }}},
		{name: "ulimits", c: &pb.ContainerDefinition{Ulimits: []*pb.Ulimit{{Name: pb.UlimitName_ULIMIT_NAME_NOFILE, SoftLimit: proto.Int32(100), HardLimit: proto.Int32(200)}, {Name: pb.UlimitName_ULIMIT_NAME_CORE, SoftLimit: proto.Int32(0), HardLimit: proto.Int32(-1)}}},
			want: []func(*runtime.Spec){func(s *runtime.Spec) {
				s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Hard: ^uint64(0)}}
			}}},
		{name: "capabilities", c: &pb.ContainerDefinition{LinuxParameters: &pb.LinuxParameters{Capabilities: &pb.KernelCapabilities{Add: []string{"NET_ADMIN"}, Drop: []string{"ALL", "cap_chown"}}}},
			want: []func(*runtime.Spec){func(s *runtime.Spec) {
				s.Process.AddCaps, s.Process.DropCaps = []string{"CAP_NET_ADMIN"}, []string{"ALL", "CAP_CHOWN"}
			}}},
		{name: "tmpfs", c: &pb.ContainerDefinition{LinuxParameters: &pb.LinuxParameters{Tmpfs: []*pb.Tmpfs{{ContainerPath: "/t", Size: 8, MountOptions: []string{"exec"}}}}},
			want: []func(*runtime.Spec){mount(specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs", Options: []string{"noexec", "nosuid", "nodev", "size=8192k", "exec"}})}},
		{name: "shared memory", c: &pb.ContainerDefinition{LinuxParameters: &pb.LinuxParameters{SharedMemorySize: proto.Int32(16)}},
			want: []func(*runtime.Spec){mount(specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=16384k"}})}},
	} {
		t.Run(c.name, func(t *testing.T) {
			def, app := proto.CloneOf(c.def), proto.CloneOf(c.c)
			if def == nil {
				def = &pb.TaskDefinition{}
			}
			if app == nil {
				app = &pb.ContainerDefinition{}
			}
			app.Name = "app"
			def.ContainerDefinitions = append(def.ContainerDefinitions, app)
			want := base()
			for _, f := range c.want {
				f(&want)
			}
			if diff := cmp.Diff(want, SpecOf(assignment(def, c.over), app, "img@sha256:1", facts)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestContainerIDIsUniqueShortAndNamesItsTask(t *testing.T) {
	valid := regexp.MustCompile(`^[A-Za-z0-9_-]{1,76}$`)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[A-Za-z0-9_-]{1,255}`)
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		id := ContainerID(specTask, a)
		if !valid.MatchString(id) || TaskOf(id) != specTask {
			t.Fatalf("the id of %q is %q", a, id)
		}
		if a != b && id == ContainerID(specTask, b) {
			t.Fatalf("%q and %q have one id", a, b)
		}
	})
}

func TestQuantity(t *testing.T) {
	for in, want := range map[string]int64{
		"": 0, "256": 256, " 512 ": 512, "0.5 vCPU": 512, "1vcpu": 1024, ".25 vCPU": 256, "many": 0, "-1": 0, "1e99": 0, "NaN": 0,
	} {
		if got := quantity("", in, "vcpu"); got != want {
			t.Errorf("%q is %d, want %d", in, got, want)
		}
	}
}

func TestResolvConf(t *testing.T) {
	const stub, real, none = "nameserver 127.0.0.53\noptions edns0\n", "nameserver 10.0.0.2\n", "search example.com\n"
	for _, c := range []struct{ name, host, upstream, want string }{
		{"the host's", real, "nameserver 10.9.9.9\n", real},
		{"what is behind a stub", stub, real, real},
		{"the stub if nothing is known behind", stub, "", stub},
		{"one without servers stays", none, real, none},
		{"a mixture is usable", stub + real, "nameserver 10.9.9.9\n", stub + real},
	} {
		dir := t.TempDir()
		host, upstream := filepath.Join(dir, "host"), filepath.Join(dir, "upstream")
		for file, text := range map[string]string{host: c.host, upstream: c.upstream} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := resolvConf(host, upstream); err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	if got, err := resolvConf("/does/not/exist", "/neither"); err != nil || len(got) != 0 {
		t.Errorf("without any: %q, %v", got, err)
	}
}

func TestWriteFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "task", "app")
	if err := writeFiles(dir, "db", "172.30.0.9"); err != nil {
		t.Fatal(err)
	}
	hosts, err := os.ReadFile(filepath.Join(dir, "hosts"))
	if err != nil || !strings.Contains(string(hosts), "172.30.0.9\tdb\n") || !strings.HasPrefix(string(hosts), "127.0.0.1\tlocalhost\n") {
		t.Errorf("hosts is %q, %v", hosts, err)
	}
	if name, err := os.ReadFile(filepath.Join(dir, "hostname")); err != nil || string(name) != "db\n" {
		t.Errorf("hostname is %q, %v", name, err)
	}
}
