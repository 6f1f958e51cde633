package images

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	containerdimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/platforms"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// errInactive ends a download that gets no byte, as ECS's agent does after
// ECS_IMAGE_PULL_INACTIVITY_TIMEOUT.
var errInactive = errors.New("the registry sends nothing")

// download brings what byDigest names into containerd and unpacks it.
func (i *Images) download(ctx context.Context, byDigest string, say func(string)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &download{store: i.cfg.Client.ContentStore(), here: map[digest.Digest]bool{}}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if d.watch(ctx, say) {
			cancel(fmt.Errorf("%w for %s", errInactive, inactivity))
		}
	}()
	_, err := i.cfg.Client.Pull(ctx, byDigest, client.WithResolver(i.resolver(ctx)), client.WithPullUnpack,
		client.WithPullSnapshotter(snapshotter), client.WithPlatformMatcher(platforms.Default()),
		client.WithMaxConcurrentDownloads(4), client.WithImageHandlerWrapper(d.note))
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errInactive) {
		err = cause
	}
	cancel(nil)
	<-watched
	return err
}

// download follows what a pull brings.
type download struct {
	store content.Store

	mu    sync.Mutex
	parts []ocispec.Descriptor
	here  map[digest.Digest]bool
}

// note takes down what an image consists of, as its manifest is read.
func (d *download) note(next containerdimages.Handler) containerdimages.Handler {
	return containerdimages.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := next.Handle(ctx, desc)
		if err == nil && containerdimages.IsManifestType(desc.MediaType) {
			d.mu.Lock()
			d.parts = append(d.parts, children...)
			d.mu.Unlock()
		}
		return children, err
	})
}

// watch says each second how far the download is, until ctx ends. It answers true
// if nothing came for too long.
func (d *download) watch(ctx context.Context, say func(string)) (stalled bool) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var most int64
	moved := time.Now()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		done, total, err := d.count(ctx)
		switch {
		case err != nil || total > 0 && done == total:
			// containerd is away, or unpacks: that is no fault of the registry's.
			moved = time.Now()
		case done > most:
			most, moved = done, time.Now()
		case time.Since(moved) > inactivity:
			return true
		}
		if text := describe(done, total); text != "" && err == nil {
			say(text)
		}
	}
}

// count answers how many bytes are here and how many there will be.
func (d *download) count(ctx context.Context) (done, total int64, err error) {
	d.mu.Lock()
	parts := d.parts
	d.mu.Unlock()
	active, err := d.store.ListStatuses(ctx)
	if err != nil {
		return 0, 0, err
	}
	written := map[string]int64{}
	for _, s := range active {
		written[s.Ref] = s.Offset
	}
	for _, p := range parts {
		total += p.Size
		if offset, ok := written[remotes.MakeRefKey(ctx, p)]; ok {
			done += offset
			continue
		}
		if !d.here[p.Digest] {
			if _, err := d.store.Info(ctx, p.Digest); err != nil {
				continue
			}
			d.here[p.Digest] = true
		}
		done += p.Size
	}
	return done, total, nil
}

// describe is the progress in words.
func describe(done, total int64) string {
	switch {
	case total == 0:
		return ""
	case done < total:
		return fmt.Sprintf("Pulling image: %s of %s", units.BytesSize(float64(done)), units.BytesSize(float64(total)))
	}
	return fmt.Sprintf("Unpacking image: %s", units.BytesSize(float64(total)))
}
