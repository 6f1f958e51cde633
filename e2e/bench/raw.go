package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	gocni "github.com/containerd/go-cni"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// raw drives containerd directly, in a containerd namespace of its own.
type raw struct {
	client *client.Client
	image  client.Image
	cni    gocni.CNI
}

const rawNamespace = "bench"

func newRaw(ctx context.Context, address, archive, dir string) (*raw, error) {
	c, err := client.New(address, client.WithDefaultNamespace(rawNamespace))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	images, err := c.Import(ctx, f, client.WithDigestRef(func(d digest.Digest) string { return "bench/sample@" + d.String() }))
	if err != nil || len(images) == 0 {
		return nil, fmt.Errorf("import %s: %w", archive, err)
	}
	image := client.NewImage(c, images[0])
	if err := image.Unpack(ctx, ""); err != nil {
		return nil, fmt.Errorf("unpack the image: %w", err)
	}
	cni, err := newCNI(dir)
	if err != nil {
		return nil, err
	}
	return &raw{client: c, image: image, cni: cni}, nil
}

func newCNI(dir string) (gocni.CNI, error) {
	conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"bench","plugins":[
{"type":"bridge","bridge":"bench0","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.79.0.0/16"}]],"dataDir":%q}},
{"type":"portmap","capabilities":{"portMappings":true}}]}`, filepath.Join(dir, "ipam"))
	cni, err := gocni.New(gocni.WithPluginDir([]string{"/usr/lib/cni", "/opt/cni/bin"}), gocni.WithInterfacePrefix("eth"))
	if err != nil {
		return nil, err
	}
	return cni, cni.Load(gocni.WithLoNetwork, gocni.WithConfListBytes([]byte(conf)))
}

// cycle is the time of one container: launched, and deleted again.
type cycle struct{ launch, remove time.Duration }

// run starts one container, with the plugins' network if port is not 0, and
// removes it.
func (r *raw) run(ctx context.Context, id string, port int) (cycle, error) {
	ctx = namespaces.WithNamespace(ctx, rawNamespace)
	begin := time.Now()
	opts := []oci.SpecOpts{oci.WithImageConfig(r.image)}
	netns := ""
	if port != 0 {
		netns = filepath.Join("/run/netns", "bench-"+id)
		if out, err := exec.CommandContext(ctx, "ip", "netns", "add", "bench-"+id).CombinedOutput(); err != nil {
			return cycle{}, fmt.Errorf("ip netns add: %w: %s", err, out)
		}
		if _, err := r.cni.Setup(ctx, id, netns, gocni.WithCapabilityPortMap([]gocni.PortMapping{{
			HostPort: int32(port), ContainerPort: 8080, Protocol: "tcp"}})); err != nil {
			return cycle{}, fmt.Errorf("set the network up: %w", err)
		}
		opts = append(opts, oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: netns}))
	}
	c, err := r.client.NewContainer(ctx, id, client.WithNewSnapshot(id, r.image), client.WithNewSpec(opts...))
	if err != nil {
		return cycle{}, fmt.Errorf("create container: %w", err)
	}
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		return cycle{}, fmt.Errorf("create task: %w", err)
	}
	exited, err := task.Wait(ctx)
	if err != nil {
		return cycle{}, err
	}
	if err := task.Start(ctx); err != nil {
		return cycle{}, fmt.Errorf("start: %w", err)
	}
	launched := time.Now()
	if err := task.Kill(ctx, syscall.SIGKILL); err != nil {
		return cycle{}, err
	}
	<-exited
	if _, err := task.Delete(ctx); err != nil {
		return cycle{}, err
	}
	if err := c.Delete(ctx, client.WithSnapshotCleanup); err != nil {
		return cycle{}, err
	}
	if port != 0 {
		if err := r.cni.Remove(ctx, id, netns, gocni.WithCapabilityPortMap([]gocni.PortMapping{{
			HostPort: int32(port), ContainerPort: 8080, Protocol: "tcp"}})); err != nil {
			return cycle{}, fmt.Errorf("take the network down: %w", err)
		}
		if out, err := exec.CommandContext(ctx, "ip", "netns", "del", "bench-"+id).CombinedOutput(); err != nil {
			return cycle{}, fmt.Errorf("ip netns del: %w: %s", err, out)
		}
	}
	return cycle{launch: launched.Sub(begin), remove: time.Since(launched)}, nil
}
