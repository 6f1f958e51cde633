package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/sys/signal"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	cachedImages = 512
	maxUserFile  = 4 << 20 // bytes read of /etc/passwd and /etc/group
)

// image is what launches need of one. It never changes.
type image struct {
	config ocispec.ImageConfig
	// chainID is the snapshot of its topmost layer.
	chainID string
	// passwd and group are the files of its root filesystem.
	passwd, group string
	stopSignal    int
}

// imageCache keeps images by digest reference, the oldest making room.
type imageCache struct {
	mu    sync.Mutex
	byRef map[string]*image
	order []string
}

func newImageCache() *imageCache {
	return &imageCache{byRef: map[string]*image{}}
}

func (c *imageCache) get(ref string) *image {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byRef[ref]
}

func (c *imageCache) put(ref string, i *image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byRef[ref]; !ok {
		if len(c.order) == cachedImages {
			delete(c.byRef, c.order[0])
			c.order = c.order[1:]
		}
		c.order = append(c.order, ref)
	}
	c.byRef[ref] = i
}

func (c *imageCache) drop(ref string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byRef[ref]; ok {
		delete(c.byRef, ref)
		c.order = slices.DeleteFunc(c.order, func(o string) bool { return o == ref })
	}
}

// image answers what there is to know of an image, from memory if ref names a
// digest that was asked for before.
func (r *Runtime) image(ctx context.Context, ref string) (*image, error) {
	cacheable := strings.Contains(ref, "@")
	if i := r.images.get(ref); i != nil && cacheable {
		return i, nil
	}
	// The load is shared, so that the first caller's context must not end it for
	// the others.
	loaded := r.loads.DoChan(ref, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return r.loadImage(ctx, ref)
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case result := <-loaded:
		if result.Err != nil {
			return nil, fmt.Errorf("read image %s: %w", ref, result.Err)
		}
		i := result.Val.(*image)
		if cacheable {
			r.images.put(ref, i)
		}
		return i, nil
	}
}

func (r *Runtime) loadImage(ctx context.Context, ref string) (_ *image, err error) {
	record, err := r.client.ImageService().Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	store := r.client.ContentStore()
	desc, err := record.Config(ctx, store, platforms.Default())
	if err != nil {
		return nil, fmt.Errorf("find configuration: %w", err)
	}
	blob, err := content.ReadBlob(ctx, store, desc)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var config ocispec.Image
	if err := json.Unmarshal(blob, &config); err != nil {
		return nil, fmt.Errorf("decode configuration: %w", err)
	}
	i := &image{
		config: config.Config, chainID: identity.ChainID(config.RootFS.DiffIDs).String(),
		stopSignal: parseSignal(config.Config.StopSignal),
	}

	ctx, done, err := r.client.WithLease(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	defer func() { err = errors.Join(err, done(context.WithoutCancel(ctx))) }()
	key := fmt.Sprintf("users-%s-%d", i.chainID, time.Now().UnixNano())
	mounts, err := r.snapshots.View(ctx, key, i.chainID)
	if errdefs.IsNotFound(err) {
		// Present but not unpacked with this snapshotter.
		if err = client.NewImage(r.client, record).Unpack(ctx, r.config.Snapshotter); err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		mounts, err = r.snapshots.View(ctx, key, i.chainID)
	}
	if err != nil {
		return nil, fmt.Errorf("view root filesystem: %w", err)
	}
	defer func() { err = errors.Join(err, r.snapshots.Remove(ctx, key)) }()
	err = mount.WithReadonlyTempMount(ctx, mounts, func(root string) error {
		if i.passwd, err = readWithin(root, "/etc/passwd"); err != nil {
			return err
		}
		i.group, err = readWithin(root, "/etc/group")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	return i, nil
}

// readWithin reads a file of a root filesystem, whose links lead nowhere else. A
// missing file is empty.
func readWithin(root, name string) (string, error) {
	path, err := fs.RootPath(root, name)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxUserFile))
	return string(b), err
}

// parseSignal reads a stop signal as images name it; SIGTERM if there is none.
func parseSignal(s string) int {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65 {
		return n
	}
	if sig, err := signal.ParseSignal(s); err == nil && sig > 0 {
		return int(sig)
	}
	return int(syscall.SIGTERM)
}
