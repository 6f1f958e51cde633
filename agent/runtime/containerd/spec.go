package containerd

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
)

const (
	defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	initInside  = "/sbin/docker-init"
	// Open files that a container may have when its definition does not say; the
	// hard limit of this process bounds both.
	softOpenFiles, hardOpenFiles = 32768, 65536
)

// host is what a specification depends on beyond the image.
type host struct {
	initPath string
	// openFiles is this process's hard limit.
	openFiles uint64
	// cgroup2 says that the host has the unified hierarchy alone.
	cgroup2 bool
}

func thisHost(initPath string) host {
	h := host{initPath: initPath, openFiles: hardOpenFiles}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		h.openFiles = limit.Max
	}
	var fs unix.Statfs_t
	h.cgroup2 = unix.Statfs("/sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
	return h
}

// completeSpec makes the OCI specification of a container. ctx carries the
// namespace.
func completeSpec(ctx context.Context, h host, i *image, in runtime.Spec) (*oci.Spec, error) {
	s, err := oci.GenerateSpec(ctx, nil, &containers.Container{ID: in.ID})
	if err != nil {
		return nil, fmt.Errorf("default specification: %w", err)
	}
	p := in.Process
	s.Process.NoNewPrivileges = p.NoNewPrivileges
	s.Process.Cwd = cmp.Or(p.WorkingDir, i.config.WorkingDir, "/")
	if s.Process.Args, err = arguments(i, p); err != nil {
		return nil, err
	}
	s.Process.Env = environment(i, in)
	if s.Process.User, err = lookUpUser(i, cmp.Or(p.User, i.config.User)); err != nil {
		return nil, err
	}
	s.Process.User.AdditionalGids = append(s.Process.User.AdditionalGids, p.AdditionalGroupNumber...)
	s.Process.Rlimits = rlimits(h, p.Rlimits)
	caps, err := capabilities(p.AddCaps, p.DropCaps)
	if err != nil {
		return nil, err
	}
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}

	s.Hostname = in.Hostname
	s.Root.Readonly = in.ReadonlyRootfs
	s.Linux.CgroupsPath = cmp.Or(in.CgroupsPath, s.Linux.CgroupsPath)
	s.Linux.Sysctl = sysctls(in)
	s.Linux.Resources = resources(in.Resources)
	s.Linux.Namespaces = namespacesOf(h, s.Linux.Namespaces, in.NetNS)
	s.Linux.Seccomp = seccomp.DefaultProfile(s)
	// runc compiles the filter anew for each container. A third architecture, the
	// x32 ABI that distributions' kernels have off, takes it a fifth of a launch;
	// without it in the filter its calls are refused.
	s.Linux.Seccomp.Architectures = slices.DeleteFunc(s.Linux.Seccomp.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	s.Mounts = mounts(s.Mounts, in.Mounts)
	if p.Init {
		if h.initPath == "" {
			return nil, fmt.Errorf("an init process was asked for, and this host has none")
		}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: initInside, Type: "bind", Source: h.initPath, Options: []string{"rbind", "ro"}})
		s.Process.Args = append([]string{initInside, "--"}, s.Process.Args...)
	}
	return s, nil
}

func arguments(i *image, p runtime.Process) ([]string, error) {
	entrypoint, command := i.config.Entrypoint, i.config.Cmd
	if p.Entrypoint != nil {
		entrypoint, command = p.Entrypoint, nil
	}
	if p.Command != nil {
		command = p.Command
	}
	args := slices.Concat(entrypoint, command)
	if len(args) == 0 {
		return nil, fmt.Errorf("no command: neither the image nor the container definition has one")
	}
	return args, nil
}

// environment is the image's, a PATH if it has none, and what is given.
func environment(i *image, in runtime.Spec) []string {
	var env []string
	at := map[string]int{}
	set := func(kv string) {
		name, _, _ := strings.Cut(kv, "=")
		if n, ok := at[name]; ok {
			env[n] = kv
			return
		}
		at[name] = len(env)
		env = append(env, kv)
	}
	set(defaultPath)
	if in.Hostname != "" {
		set("HOSTNAME=" + in.Hostname)
	}
	for _, kv := range slices.Concat(i.config.Env, in.Process.Env) {
		set(kv)
	}
	return env
}

// lookUpUser finds user[:group] in the image as Docker does: numbers need no
// entry; a user's groups are its additional ones unless a group is given.
func lookUpUser(i *image, name string) (specs.User, error) {
	u, err := user.GetExecUser(name, &user.ExecUser{}, strings.NewReader(i.passwd), strings.NewReader(i.group))
	if err != nil {
		return specs.User{}, fmt.Errorf("look up user %q in the image: %w", name, err)
	}
	// GetExecUser answers no number outside 31 bits.
	out := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	for _, g := range u.Sgids {
		out.AdditionalGids = append(out.AdditionalGids, uint32(g))
	}
	return out, nil
}

func rlimits(h host, given []specs.POSIXRlimit) []specs.POSIXRlimit {
	out := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: min(softOpenFiles, h.openFiles), Hard: min(hardOpenFiles, h.openFiles)}}
	for _, l := range given {
		out = slices.DeleteFunc(out, func(have specs.POSIXRlimit) bool { return have.Type == l.Type })
		out = append(out, l)
	}
	return out
}

// sysctls are the given ones over Docker's defaults, which let any process of a
// task with a network of its own listen on low ports and ping.
func sysctls(in runtime.Spec) map[string]string {
	out := map[string]string{}
	if in.NetNS != "" {
		out["net.ipv4.ip_unprivileged_port_start"] = "0"
		out["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	maps.Copy(out, in.Sysctl)
	return out
}

// resources keeps devices closed whatever else is given.
func resources(given *specs.LinuxResources) *specs.LinuxResources {
	out := specs.LinuxResources{}
	if given != nil {
		out = *given
	}
	out.Devices = append([]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, out.Devices...)
	return &out
}

func namespacesOf(h host, defaults []specs.LinuxNamespace, netns string) []specs.LinuxNamespace {
	out := slices.DeleteFunc(slices.Clone(defaults), func(n specs.LinuxNamespace) bool {
		return n.Type == specs.NetworkNamespace || n.Type == specs.CgroupNamespace
	})
	if netns != "" {
		out = append(out, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: netns})
	}
	if h.cgroup2 {
		out = append(out, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return out
}

// mounts are Docker's defaults (no /run, the container's own cgroups readable)
// and the given ones, which replace a default of the same destination.
func mounts(defaults, given []specs.Mount) []specs.Mount {
	out := slices.DeleteFunc(slices.Clone(defaults), func(m specs.Mount) bool { return m.Destination == "/run" })
	out = append(out, specs.Mount{
		Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"},
	})
	for _, m := range given {
		m.Destination = path.Clean(m.Destination)
		if at := slices.IndexFunc(out, func(have specs.Mount) bool { return have.Destination == m.Destination }); at >= 0 {
			out[at] = m
			continue
		}
		out = append(out, m)
	}
	return out
}
