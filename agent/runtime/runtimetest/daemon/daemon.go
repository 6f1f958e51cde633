package daemon

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/testimage"
)

const patience = 30 * time.Second

// The plugins that no test needs, or that this host's kernel lacks.
const config = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "%[1]s/containerd.sock"
[ttrpc]
  address = "%[1]s/containerd.sock.ttrpc"
`

// Daemon is a containerd that runs.
type Daemon struct {
	// Dir holds all of it, Address is its socket.
	Dir, Address string

	t    testing.TB
	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	log  bytes.Buffer

	namespaces []string // that images were loaded into
}

// Start runs a containerd until the test ends. What its tests launch is killed
// then too.
func Start(t testing.TB) *Daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "plimsoll-containerd-")
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{Dir: dir, Address: filepath.Join(dir, "containerd.sock"), t: t}
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), fmt.Appendf(nil, config, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.tearDown)
	d.Resume()
	return d
}

// Resume starts containerd again after Kill, and waits until it serves.
func (d *Daemon) Resume() {
	d.t.Helper()
	// containerd finds its shim through PATH; a session of its own keeps a
	// signal to the test away from it.
	cmd := exec.Command("containerd", "--config", filepath.Join(d.Dir, "config.toml"), "--log-level", "warn")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = &d.log, &d.log
	if err := cmd.Start(); err != nil {
		d.t.Fatalf("start containerd: %v", err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	d.mu.Lock()
	d.cmd, d.done = cmd, done
	d.mu.Unlock()
	c := d.Client("default")
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if ok, err := c.IsServing(ctx); err != nil || !ok {
		d.Kill()
		d.t.Fatalf("containerd does not serve: %v\n%s", err, &d.log)
	}
}

// Kill ends containerd with SIGKILL; shims and containers run on.
func (d *Daemon) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd != nil {
		_ = d.cmd.Process.Kill()
		<-d.done
		d.cmd = nil
	}
}

// Client connects to the containerd, with the namespace by default.
func (d *Daemon) Client(namespace string) *client.Client {
	d.t.Helper()
	c, err := client.New(d.Address, client.WithDefaultNamespace(namespace), client.WithTimeout(time.Second))
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// Load imports and unpacks an image, and answers its digest reference.
func (d *Daemon) Load(image v1.Image, namespace, name string) string {
	d.t.Helper()
	archive, err := os.Open(testimage.Archive(d.t, image, name+":test"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer archive.Close()
	d.namespaces = append(d.namespaces, namespace)
	c := d.Client(namespace)
	defer c.Close()
	ctx := namespaces.WithNamespace(d.t.Context(), namespace)
	imported, err := c.Import(ctx, archive)
	if err != nil || len(imported) != 1 {
		d.t.Fatalf("import the test image: %d images, %v", len(imported), err)
	}
	record := imported[0]
	record.Name = name + "@" + record.Target.Digest.String()
	if record, err = c.ImageService().Create(ctx, record); err != nil {
		d.t.Fatal(err)
	}
	if err := client.NewImage(c, record).Unpack(ctx, "overlayfs"); err != nil {
		d.t.Fatal(err)
	}
	return record.Name
}

// Shims answers the process ids of the daemon's shims by container.
func (d *Daemon) Shims() map[string]int {
	out := map[string]int{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		args := strings.Split(string(b), "\x00")
		if !strings.Contains(args[0], "containerd-shim") || !strings.Contains(string(b), d.Dir+"/") {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/", &pid); err != nil {
			continue
		}
		for n := range len(args) - 1 {
			if args[n] == "-id" {
				out[args[n+1]] = pid
			}
		}
	}
	return out
}

// tearDown kills containerd, then the shims and containers that it left, then
// its mounts and files.
func (d *Daemon) tearDown() {
	d.Kill()
	bundles, _ := filepath.Glob(filepath.Join(d.Dir, "state/io.containerd.runtime.v2.task/*/*/init.pid"))
	for _, file := range bundles {
		var pid int
		if b, err := os.ReadFile(file); err == nil {
			if _, err := fmt.Sscan(string(b), &pid); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	for _, pid := range d.Shims() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, file := range bundles {
		id, ns := filepath.Base(filepath.Dir(file)), filepath.Base(filepath.Dir(filepath.Dir(file)))
		removeCgroups(filepath.Join(ns, id))
	}
	for _, ns := range d.namespaces {
		parents, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", ns))
		for _, dir := range parents {
			_ = syscall.Rmdir(dir) // Stays if another test's containers are in it.
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], d.Dir+"/") {
			_ = unix.Unmount(fields[1], unix.MNT_DETACH)
		}
	}
	if err := os.RemoveAll(d.Dir); err != nil {
		d.t.Errorf("remove containerd's directory: %v", err)
	}
	if d.t.Failed() {
		d.t.Logf("containerd's log:\n%s", warnings(d.log.String()))
	}
}

// removeCgroups removes a killed container's cgroups as soon as they are empty.
func removeCgroups(path string) {
	deadline := time.NewTimer(2 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		dirs, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", path))
		if len(dirs) == 0 {
			return
		}
		for _, dir := range dirs {
			_ = syscall.Rmdir(dir)
		}
		select {
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}

// warnings are the lines of a log that are not of level info.
func warnings(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "level=info") {
			b.WriteString(line)
		}
	}
	return b.String()
}
