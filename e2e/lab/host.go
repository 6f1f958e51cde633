package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// initScript is a host's first process. The tmpfs hides the machine's own
// containerd and takes what shims leave in the fixed directory. Waiting in the
// shell also reaps the processes that fall to it.
const initScript = `set -e
mount --make-rslave /
mount -t proc proc /proc
mkdir -p /run/containerd
mount -t tmpfs -o mode=0711 tmpfs /run/containerd
[ -z "$LAB_HOSTNAME" ] || hostname "$LAB_HOSTNAME"
[ -z "$LAB_RESOLV" ] || mount --bind "$LAB_RESOLV" /etc/resolv.conf
echo ready >&3
exec 3>&-
sleep 2147483647 &
wait`

// hostDir is where a host keeps its things: containerd/{root,state,socket},
// agent/ and run/. state and run are emptied when the host starts, as /run is.
func hostDir(s *State, h Host) string { return filepath.Join(s.DataDir, "hosts", h.Name) }

func containerdSocket(s *State, h Host) string {
	return filepath.Join(hostDir(s, h), "containerd.sock")
}

func (l *Lab) log(name string) string {
	return filepath.Join(l.state.DataDir, "logs", strings.ReplaceAll(name, " ", "-")+".log")
}

// boot starts host i's init process, containerd and agent.
func (l *Lab) boot(ctx context.Context, i int) error {
	if err := l.startInit(i); err != nil {
		return err
	}
	if err := l.startContainerd(ctx, i); err != nil {
		return err
	}
	return l.startAgent(i)
}

func (l *Lab) startInit(i int) error {
	h := l.host(i)
	dir := hostDir(l.state, h)
	for _, d := range []string{"state", "run"} {
		if err := os.RemoveAll(filepath.Join(dir, d)); err != nil {
			return fmt.Errorf("empty %s of %s: %w", d, h.Name, err)
		}
		if err := os.MkdirAll(filepath.Join(dir, d), 0o711); err != nil {
			return fmt.Errorf("make %s of %s: %w", d, h.Name, err)
		}
	}
	c := command{
		name: h.Name + " init", path: "/bin/sh", args: []string{"-c", initScript}, log: l.log(h.Name + " init"),
		clone: unix.CLONE_NEWNS | unix.CLONE_NEWPID, ready: true,
	}
	if h.NetNS != "" {
		c.enter = func() error { return enterNet(h.NetNS) }
		c.clone |= unix.CLONE_NEWUTS
		c.env = append(c.env, "LAB_HOSTNAME="+h.Name, "LAB_RESOLV="+upstreamResolv("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"))
	}
	p, err := l.start(c)
	if err != nil {
		return err
	}
	return l.record(func(s *State) { s.Hosts[i].Init = p.Proc })
}

// upstreamResolv answers the upstream file if the machine's resolver listens on
// loopback, where the hosts' namespaces cannot reach it; else nothing.
func upstreamResolv(used, upstream string) string {
	data, err := os.ReadFile(used)
	if err != nil {
		return ""
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && !a.IsLoopback() {
			return ""
		}
	}
	if _, err := os.Stat(upstream); err != nil {
		return ""
	}
	return upstream
}

const containerdConfig = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "%[1]s/containerd.sock"
[ttrpc]
  address = "%[1]s/containerd.sock.ttrpc"
`

func (l *Lab) startContainerd(ctx context.Context, i int) error {
	h := l.host(i)
	dir := hostDir(l.state, h)
	config := filepath.Join(dir, "containerd.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, containerdConfig, dir), 0o644); err != nil {
		return fmt.Errorf("configure containerd of %s: %w", h.Name, err)
	}
	p, err := l.start(command{
		name: h.Name + " containerd", path: l.containerd, args: []string{"--config", config, "--log-level", "warn"},
		log: l.log(h.Name + " containerd"), enter: func() error { return enterHost(h.Init) },
	})
	if err != nil {
		return err
	}
	l.keep(p)
	if err := l.record(func(s *State) { s.Hosts[i].Containerd = p.Proc }); err != nil {
		return err
	}
	conn, err := grpc.NewClient("unix://"+containerdSocket(l.state, h), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to containerd of %s: %w", h.Name, err)
	}
	defer conn.Close()
	return l.until(ctx, p, 20*time.Millisecond, func(ctx context.Context) error {
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
		return err
	})
}

func (l *Lab) startAgent(i int) error {
	h := l.host(i)
	s := l.state
	dir := hostDir(s, h)
	server := fmt.Sprintf("127.0.0.1:%d", s.APIPort)
	args := []string{}
	if h.NetNS != "" {
		subnet, err := netip.ParsePrefix(s.Subnet)
		if err != nil {
			return fmt.Errorf("subnet of the lab: %w", err)
		}
		server = fmt.Sprintf("%s:%d", nth(subnet, 1), s.APIPort)
		args = append(args, "--hostname", h.Name)
	} else {
		args = append(args, "--bridge-name", s.TaskBridge, "--bridge-subnet", l.taskSubnet.String(), "--nft-table", s.NftTable, "--publish", "127.0.0.0/8")
	}
	args = append(args, "--server", server, "--join-token-file", l.tokenFile(),
		"--data-dir", filepath.Join(dir, "agent"), "--runtime-dir", filepath.Join(dir, "run"),
		"--containerd-address", containerdSocket(s, h), "--availability-zone", s.Region+string(rune('a'+i%3)),
		"--log-level", l.config.LogLevel)
	p, err := l.start(command{
		name: h.Name + " agent", path: filepath.Join(l.config.BinDir, "plim-agent"), args: append(args, l.config.AgentArgs...),
		log: l.log(h.Name + " agent"), enter: func() error { return enterHost(h.Init) },
	})
	if err != nil {
		return err
	}
	l.keep(p)
	return l.record(func(s *State) { s.Hosts[i].Agent = p.Proc })
}
