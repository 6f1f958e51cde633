// Package images brings images onto the host: it resolves references, pulls
// what is missing through containerd, and answers the digest that runs.
//
// A tag is resolved with its registry at each launch, but for tags that were
// resolved less than two seconds ago, so that a service's many launches ask
// once. When the registry cannot be reached and the tag was pulled before, that
// image is used and the log says so. What else fails is tried again with growing
// pauses, unless the registry's answer was final.
//
// Callers who want the same share one download, under whatever tag; it ends when
// the last of them gives up. The cluster's own registry is asked with the node's
// certificate, others as containerd's host configuration (certs.d) and the
// agent's Docker or Podman credentials say.
package images

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	containerdimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

const (
	// resolved is how long a tag's digest is taken as it was.
	resolved = 2 * time.Second
	// tellEvery is how often a caller hears how far its pull is.
	tellEvery = 3 * time.Second
	// inactivity is how long a download may stand still.
	inactivity = time.Minute
	// Pauses before what failed is tried again double from firstPause.
	firstPause = 500 * time.Millisecond
	attempts   = 4

	snapshotter = "overlayfs"
)

// Config is what Images needs.
type Config struct {
	Client    *client.Client
	Namespace string
	// HostsDir has a directory for each registry that is configured, as
	// containerd's certs.d: mirrors, authorities, plain HTTP. It may be missing.
	HostsDir string
	// Downloads is how many images are downloaded at once; 1 when less.
	Downloads int
	Logger    *slog.Logger
}

// Images pulls images. It is safe for concurrent use.
type Images struct {
	cfg       Config
	downloads chan struct{} // the semaphore of downloads
	tags      *shared[string]
	pulls     *shared[struct{}]

	mu  sync.Mutex
	own *registry
	// unpacked are the images that were seen to be, named the digests that tags
	// were noted to have. Their number is bounded by forgetting all.
	unpacked map[string]bool
	named    map[string]string
}

// Image is one that is on the host and unpacked.
type Image struct {
	// Ref is name@digest: what a container is made from.
	Ref string
	// Digest is the digest of the manifest, or of the index, that was asked for.
	Digest string
}

// Error is why an image is not there.
type Error struct {
	// Name is ECS's: CannotPullContainerError, CannotPullImageManifestError or
	// CannotPullContainerAuthError.
	Name  string
	Image string
	Err   error
}

// Error is the message as ECS puts it.
func (e *Error) Error() string { return fmt.Sprintf("%s: pull image %s: %v", e.Name, e.Image, e.Err) }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes Images.
func New(cfg Config) *Images {
	return &Images{
		cfg: cfg, downloads: make(chan struct{}, max(1, cfg.Downloads)), tags: newShared[string](resolved),
		pulls: newShared[struct{}](0), own: &registry{client: &http.Client{}}, unpacked: map[string]bool{}, named: map[string]string{},
	}
}

// Pull sees that the image is on the host and answers it. While it is being
// pulled, tell hears every few seconds how far that is, in words; it may be nil.
// The error is an *Error, or the context's.
func (i *Images) Pull(ctx context.Context, image string, tell func(string)) (Image, error) {
	if tell == nil {
		tell = func(string) {}
	}
	named, err := reference.ParseDockerRef(image)
	if err != nil {
		return Image{}, &Error{"CannotPullContainerError", image, err}
	}
	got, err := i.get(namespaces.WithNamespace(ctx, i.cfg.Namespace), named, tell)
	switch {
	case err == nil:
		return got, nil
	case ctx.Err() != nil:
		return Image{}, ctx.Err()
	}
	return Image{}, classify(image, err)
}

func (i *Images) get(ctx context.Context, named reference.Named, tell func(string)) (Image, error) {
	var digest string
	canonical, byDigest := named.(reference.Canonical)
	if byDigest {
		digest = canonical.Digest().String()
	} else {
		var err error
		digest, err = i.tags.do(ctx, named.String(), tell, func(ctx context.Context, say func(string)) (string, error) {
			return i.resolve(ctx, named.String(), say)
		})
		if err != nil {
			return Image{}, err
		}
	}
	image := Image{Ref: named.Name() + "@" + digest, Digest: digest}
	here, err := i.here(ctx, image.Ref)
	if err == nil && !here {
		_, err = i.pulls.do(ctx, image.Ref, tell, func(ctx context.Context, say func(string)) (struct{}, error) {
			return struct{}{}, i.pull(ctx, image.Ref, say)
		})
	}
	if err == nil && !byDigest {
		err = i.tag(ctx, named.String(), image)
	}
	return image, err
}

// resolve asks the registry for a tag's digest.
func (i *Images) resolve(ctx context.Context, ref string, say func(string)) (digest string, err error) {
	err = i.retry(ctx, "resolve image", ref, say, func() error {
		_, desc, err := i.resolver(ctx).Resolve(ctx, ref)
		digest = desc.Digest.String()
		if err == nil || final(err) {
			return err
		}
		last, ok := i.fallback(ctx, ref)
		if !ok {
			return err
		}
		i.cfg.Logger.Warn("registry cannot be reached: the image that was pulled last is used", "image", ref, "digest", last, "err", err)
		digest = last
		return nil
	})
	return digest, err
}

// fallback is the digest that the tag had at last, if its image is here.
func (i *Images) fallback(ctx context.Context, ref string) (digest string, ok bool) {
	record, err := i.cfg.Client.ImageService().Get(ctx, ref)
	if err != nil {
		return "", false
	}
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", false
	}
	digest = record.Target.Digest.String()
	here, err := i.here(ctx, named.Name()+"@"+digest)
	return digest, err == nil && here
}

// here says whether the image is on the host, and sees that it is unpacked.
func (i *Images) here(ctx context.Context, byDigest string) (bool, error) {
	image, err := i.cfg.Client.GetImage(ctx, byDigest)
	if errdefs.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	i.mu.Lock()
	known := i.unpacked[byDigest]
	i.mu.Unlock()
	if known {
		return true, nil
	}
	ok, err := image.IsUnpacked(ctx, snapshotter)
	if err == nil && !ok {
		err = image.Unpack(ctx, snapshotter)
	}
	if errdefs.IsNotFound(err) {
		return false, nil // some of its content is gone
	} else if err != nil {
		return false, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	note(i.unpacked, byDigest, true)
	return true, nil
}

// pull downloads an image in its turn.
func (i *Images) pull(ctx context.Context, byDigest string, say func(string)) error {
	say("Waiting for other pulls")
	select {
	case i.downloads <- struct{}{}:
		defer func() { <-i.downloads }()
	case <-ctx.Done():
		return ctx.Err()
	}
	began := time.Now()
	say("Pulling image")
	err := i.retry(ctx, "pull image", byDigest, say, func() error { return i.download(ctx, byDigest, say) })
	if err == nil {
		i.cfg.Logger.Info("image pulled", "image", byDigest, "took", time.Since(began).Round(time.Millisecond))
	}
	return err
}

// tag notes that an image that is here is what the tag means: it is what a later
// launch falls back to.
func (i *Images) tag(ctx context.Context, ref string, image Image) error {
	i.mu.Lock()
	noted := i.named[ref] == image.Digest
	i.mu.Unlock()
	if noted {
		return nil
	}
	store := i.cfg.Client.ImageService()
	record, err := store.Get(ctx, image.Ref)
	if err != nil {
		return err
	}
	_, err = store.Create(ctx, containerdimages.Image{Name: ref, Target: record.Target})
	if errdefs.IsAlreadyExists(err) {
		_, err = store.Update(ctx, containerdimages.Image{Name: ref, Target: record.Target})
	}
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	note(i.named, ref, image.Digest)
	return nil
}

// note puts into a map that is emptied when it is full.
func note[V any](m map[string]V, key string, value V) {
	if len(m) == 1024 {
		clear(m)
	}
	m[key] = value
}

// retry does what may succeed another time, with pauses.
func (i *Images) retry(ctx context.Context, what, image string, say func(string), do func() error) error {
	for n, pause := 1, firstPause; ; n, pause = n+1, 2*pause {
		err := do()
		if err == nil || ctx.Err() != nil || n == attempts || final(err) {
			return err
		}
		i.cfg.Logger.Warn(what+" again", "image", image, "attempt", n, "in", pause, "err", err)
		say(fmt.Sprintf("Pulling image again after: %v", err))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}
