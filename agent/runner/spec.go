package runner

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Facts are what a container's specification takes from the host.
type Facts struct {
	// Host is the host's name; ClusterARN and Instance are where it belongs.
	Hostname string
	// Files is the directory of the container's generated hosts, hostname and
	// resolv.conf.
	Files   string
	LogPath string
	NetNS   string
	// Address is the container's in bridge mode.
	Address string
}

// labels that ECS's agent puts on containers.
const labelPrefix = "com.amazonaws.ecs."

// LabelTask is the label with the task's id.
const LabelTask = "plimsoll.task"

// ContainerID is a container's name on the host: made from the task's id and the
// container's name, so that a step that is done twice finds what it made. It
// has at most 76 characters, as containerd wants.
func ContainerID(task, container string) string {
	if len(container) <= 40 {
		return task + "-" + container
	}
	sum := sha256.Sum256([]byte(container))
	return task + "-" + container[:23] + "-" + hex.EncodeToString(sum[:8])
}

// SpecOf is a container's specification: what the task definition says, with the
// task's overrides. The image is a digest reference. It is pure.
func SpecOf(a *pb.Assignment, c *pb.ContainerDefinition, image string, f Facts) runtime.Spec {
	o := override(a, c.GetName())
	s := runtime.Spec{
		ID: ContainerID(a.GetTaskId(), c.GetName()), Image: image, LogPath: f.LogPath, NetNS: f.NetNS,
		Hostname: hostname(a, c, f), ReadonlyRootfs: c.GetReadonlyRootFilesystem(),
		Labels:    labelsOf(a, c),
		Resources: limits(a, c, o),
		Process: runtime.Process{
			WorkingDir: c.GetWorkingDirectory(), User: c.GetUser(), Env: environment(a, c, o, f), Rlimits: rlimits(c.GetUlimits()),
			AddCaps: caps(c.GetLinuxParameters().GetCapabilities().GetAdd()), DropCaps: caps(c.GetLinuxParameters().GetCapabilities().GetDrop()),
		},
	}
	if len(c.GetEntryPoint()) > 0 {
		s.Process.Entrypoint = c.GetEntryPoint()
	}
	if len(o.GetCommand()) > 0 {
		s.Process.Command = o.GetCommand()
	} else if len(c.GetCommand()) > 0 {
		s.Process.Command = c.GetCommand()
	}
	if f.Files != "" {
		for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/" + name, Type: "bind", Source: path.Join(f.Files, name), Options: []string{"rbind", "rw"}})
		}
	}
	for _, t := range c.GetLinuxParameters().GetTmpfs() {
		// As Docker does; mountOptions such as exec come later and win.
		options := append([]string{"noexec", "nosuid", "nodev", fmt.Sprintf("size=%dk", t.GetSize()*1024)}, t.GetMountOptions()...)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: t.GetContainerPath(), Type: "tmpfs", Source: "tmpfs", Options: options})
	}
	if n := c.GetLinuxParameters().GetSharedMemorySize(); n > 0 {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%dk", n*1024)}})
	}
	return s
}

func override(a *pb.Assignment, name string) *pb.ContainerOverride {
	for _, o := range a.GetTask().GetOverrides().GetContainerOverrides() {
		if o.GetName() == name {
			return o
		}
	}
	return nil
}

func hostname(a *pb.Assignment, c *pb.ContainerDefinition, f Facts) string {
	switch {
	case a.GetTaskDefinition().GetNetworkMode() == pb.NetworkMode_NETWORK_MODE_HOST:
		return f.Hostname
	case c.GetHostname() != "":
		return c.GetHostname()
	}
	return a.GetTaskId()[:min(12, len(a.GetTaskId()))]
}

func labelsOf(a *pb.Assignment, c *pb.ContainerDefinition) map[string]string {
	l := map[string]string{}
	for k, v := range c.GetDockerLabels() {
		l[k] = v
	}
	l[labelPrefix+"task-arn"] = a.GetTask().GetTaskArn()
	l[labelPrefix+"container-name"] = c.GetName()
	l[labelPrefix+"task-definition-family"] = a.GetTaskDefinition().GetFamily()
	l[labelPrefix+"task-definition-version"] = fmt.Sprint(a.GetTaskDefinition().GetRevision())
	l[labelPrefix+"cluster"] = a.GetTask().GetClusterArn()
	l[LabelTask] = a.GetTaskId()
	return l
}

func environment(a *pb.Assignment, c *pb.ContainerDefinition, o *pb.ContainerOverride, f Facts) []string {
	env := []string{
		"HOSTNAME=" + hostname(a, c, f),
		"AWS_EXECUTION_ENV=AWS_ECS_EC2",
		"PLIMSOLL_TASK_ARN=" + a.GetTask().GetTaskArn(),
		"PLIMSOLL_HOST=" + f.Hostname,
	}
	set := func(name, value string) {
		env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		env = append(env, name+"="+value)
	}
	for _, e := range c.GetEnvironment() {
		set(e.GetName(), e.GetValue())
	}
	for _, e := range o.GetEnvironment() {
		set(e.GetName(), e.GetValue())
	}
	return env
}

// limits are the container's cgroup limits. CPU units are shares: 1024 is one
// core's worth where cores are short; 2 is the least that there is. Memory is
// the hard limit, the task's where the container has none.
func limits(a *pb.Assignment, c *pb.ContainerDefinition, o *pb.ContainerOverride) *specs.LinuxResources {
	r := &specs.LinuxResources{CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}}
	shares := uint64(max(2, cpuOf(a, c, o)))
	r.CPU.Shares = &shares
	memory := int64(c.GetMemory())
	if o.GetMemory() > 0 {
		memory = int64(o.GetMemory())
	}
	if memory == 0 {
		memory = taskMemory(a)
	}
	if memory > 0 {
		bytes := memory << 20
		r.Memory.Limit = &bytes
	}
	soft := int64(c.GetMemoryReservation())
	if o.GetMemoryReservation() > 0 {
		soft = int64(o.GetMemoryReservation())
	}
	if soft > 0 {
		bytes := soft << 20
		r.Memory.Reservation = &bytes
	}
	return r
}

// cpuOf is a container's CPU units. Containers without any share what the task
// has beyond its others'.
func cpuOf(a *pb.Assignment, c *pb.ContainerDefinition, o *pb.ContainerOverride) int64 {
	own := func(c *pb.ContainerDefinition, o *pb.ContainerOverride) int64 {
		if o.GetCpu() > 0 {
			return int64(o.GetCpu())
		}
		return int64(c.GetCpu())
	}
	if n := own(c, o); n > 0 {
		return n
	}
	left, without := taskCPU(a), int64(0)
	for _, other := range a.GetTaskDefinition().GetContainerDefinitions() {
		n := own(other, override(a, other.GetName()))
		left -= n
		if n == 0 {
			without++
		}
	}
	return max(0, left) / max(1, without)
}

// taskCPU is the task-level CPU in units, 0 if there is none. The control plane
// has checked its form: "512" or "0.5 vCPU".
func taskCPU(a *pb.Assignment) int64 {
	return quantity(a.GetTask().GetOverrides().GetCpu(), a.GetTaskDefinition().GetCpu(), "vcpu")
}

// taskMemory is the task-level memory in MiB, 0 if there is none. The control
// plane has checked its form: "512" or "1 GB".
func taskMemory(a *pb.Assignment) int64 {
	return quantity(a.GetTask().GetOverrides().GetMemory(), a.GetTaskDefinition().GetMemory(), "gb")
}

// quantity is a task-level number: the override if there is one. 1024 are one of
// the unit.
func quantity(override, definition, unit string) int64 {
	s := strings.ToLower(strings.TrimSpace(cmp.Or(override, definition)))
	number, whole := strings.CutSuffix(s, unit)
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	switch {
	case err != nil || !(n >= 0 && n <= 1<<40): // NaN is neither
		return 0
	case whole:
		return int64(n * 1024)
	}
	return int64(n)
}

func rlimits(ulimits []*pb.Ulimit) []specs.POSIXRlimit {
	var out []specs.POSIXRlimit
	for _, u := range ulimits {
		name := strings.TrimPrefix(u.GetName().String(), "ULIMIT_NAME_")
		out = append(out, specs.POSIXRlimit{Type: "RLIMIT_" + name, Soft: unlimited(u.GetSoftLimit()), Hard: unlimited(u.GetHardLimit())})
	}
	return out
}

// unlimited is -1's meaning.
func unlimited(n int32) uint64 {
	if n < 0 {
		return ^uint64(0)
	}
	return uint64(n)
}

func caps(names []string) []string {
	var out []string
	for _, n := range names {
		if n = strings.ToUpper(n); n != "ALL" && !strings.HasPrefix(n, "CAP_") {
			n = "CAP_" + n
		}
		out = append(out, n)
	}
	return out
}

// TaskOf is the task that a container's name on the host belongs to: what
// ContainerID was made from.
func TaskOf(id string) string {
	task, _, _ := strings.Cut(id, "-")
	return task
}
