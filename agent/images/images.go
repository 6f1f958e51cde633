// Package images brings images onto the host: it resolves references, pulls
// what is missing through containerd, and answers the digest that runs.
//
// A tag is resolved with its registry at each launch, but for tags that were
// resolved less than two seconds ago, so that a service's many launches ask
// once. When the registry cannot be reached and the tag was pulled before, that
// image is used and the log says so.
//
// Pulls of one reference share one download. The package runs no goroutines that
// outlive a call.
package images

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	containerdimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"golang.org/x/sync/singleflight"
)

// resolved is how long a tag's digest is taken as it was.
const resolved = 2 * time.Second

// Config is what Images needs.
type Config struct {
	Client    *client.Client
	Namespace string
	Logger    *slog.Logger
}

// Images pulls images. It is safe for concurrent use.
type Images struct {
	client    *client.Client
	namespace string
	logger    *slog.Logger
	flights   singleflight.Group

	mu sync.Mutex
	// own is the cluster's registry.
	ownHost   string
	endpoints []string
	tls       *tls.Config
	tags      map[string]tag
}

type tag struct {
	image Image
	at    time.Time
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
	return &Images{client: cfg.Client, namespace: cfg.Namespace, logger: cfg.Logger, tags: map[string]tag{}}
}

// SetRegistry says where the cluster's registry is: images of that host are
// pulled from the endpoints with that TLS configuration.
func (i *Images) SetRegistry(host string, endpoints []string, t *tls.Config) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ownHost, i.endpoints, i.tls = host, endpoints, t
}

// Pull sees that the image is on the host and answers it. Its error is an
// *Error, or the context's.
func (i *Images) Pull(ctx context.Context, name string) (Image, error) {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return Image{}, &Error{"CannotPullContainerError", name, err}
	}
	ref := named.String()
	i.mu.Lock()
	t, ok := i.tags[ref]
	i.mu.Unlock()
	if ok && time.Since(t.at) < resolved {
		return t.image, nil
	}
	// Who waits may give up; the pull goes on for the others.
	ch := i.flights.DoChan(ref, func() (any, error) {
		ctx := namespaces.WithNamespace(context.WithoutCancel(ctx), i.namespace)
		image, err := i.pull(ctx, ref)
		if err == nil {
			i.mu.Lock()
			i.tags[ref] = tag{image, time.Now()}
			i.mu.Unlock()
		}
		return image, err
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return Image{}, classify(name, r.Err)
		}
		return r.Val.(Image), nil
	case <-ctx.Done():
		return Image{}, ctx.Err()
	}
}

func (i *Images) pull(ctx context.Context, ref string) (Image, error) {
	if c, ok := mustParse(ref).(reference.Canonical); ok {
		if image, err := i.local(ctx, ref, c.Digest().String()); err == nil {
			return image, nil
		}
	}
	resolver := i.resolver()
	_, desc, err := resolver.Resolve(ctx, ref)
	if err != nil {
		return i.fallback(ctx, ref, err)
	}
	if image, err := i.local(ctx, ref, desc.Digest.String()); err == nil {
		return image, nil
	}
	i.logger.Info("pull image", "image", ref, "digest", desc.Digest)
	byDigest := withDigest(ref, desc.Digest.String())
	pulled, err := i.client.Pull(ctx, byDigest, client.WithResolver(resolver), client.WithPullUnpack,
		client.WithPlatformMatcher(platforms.Default()), client.WithMaxConcurrentDownloads(4))
	if err != nil {
		return Image{}, err
	}
	// The tag is kept as a name too: it is what a later launch falls back to.
	record := containerdimages.Image{Name: ref, Target: pulled.Target()}
	if _, err := i.client.ImageService().Create(ctx, record); errdefs.IsAlreadyExists(err) {
		_, err = i.client.ImageService().Update(ctx, record)
		if err != nil {
			return Image{}, err
		}
	} else if err != nil {
		return Image{}, err
	}
	return Image{Ref: byDigest, Digest: desc.Digest.String()}, nil
}

// local is an image that is here and unpacked under its digest.
func (i *Images) local(ctx context.Context, ref, digest string) (Image, error) {
	byDigest := withDigest(ref, digest)
	image, err := i.client.GetImage(ctx, byDigest)
	if err != nil {
		return Image{}, err
	}
	unpacked, err := image.IsUnpacked(ctx, "overlayfs")
	if err == nil && !unpacked {
		err = image.Unpack(ctx, "overlayfs")
	}
	return Image{Ref: byDigest, Digest: digest}, err
}

// fallback is the image that the tag was at last, where its registry cannot be
// reached.
func (i *Images) fallback(ctx context.Context, ref string, cause error) (Image, error) {
	if errdefs.IsNotFound(cause) || isAuth(cause) {
		return Image{}, cause
	}
	record, err := i.client.ImageService().Get(ctx, ref)
	if err != nil {
		return Image{}, cause
	}
	image, err := i.local(ctx, ref, record.Target.Digest.String())
	if err != nil {
		return Image{}, cause
	}
	i.logger.Warn("registry cannot be reached: the image that was pulled last is used", "image", ref, "digest", image.Digest, "err", cause)
	return image, nil
}

func mustParse(ref string) reference.Named {
	n, _ := reference.ParseDockerRef(ref)
	return n
}

// withDigest is name@digest.
func withDigest(ref, digest string) string { return mustParse(ref).Name() + "@" + digest }

// resolver asks the registries, the cluster's own under its endpoints.
func (i *Images) resolver() remotes.Resolver {
	i.mu.Lock()
	own, endpoints, t := i.ownHost, i.endpoints, i.tls
	i.mu.Unlock()
	public := docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost),
		docker.WithClient(&http.Client{Transport: transport(nil)}))
	return docker.NewResolver(docker.ResolverOptions{Hosts: func(host string) ([]docker.RegistryHost, error) {
		if own == "" || host != own {
			return public(host)
		}
		c := &http.Client{Transport: transport(t)}
		var hosts []docker.RegistryHost
		for _, e := range endpoints {
			hosts = append(hosts, docker.RegistryHost{Client: c, Host: e, Scheme: "https", Path: "/v2",
				Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve})
		}
		if len(hosts) == 0 {
			return nil, fmt.Errorf("the cluster has no image registry")
		}
		return hosts, nil
	}})
}

func transport(t *tls.Config) *http.Transport {
	return &http.Transport{
		TLSClientConfig: t, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, Proxy: http.ProxyFromEnvironment,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 60 * time.Second, MaxIdleConnsPerHost: 4,
		IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
	}
}

// isAuth says whether a registry refused who asked. The types are asked, not the
// text: that holds ports and digests, which contain any number.
func isAuth(err error) bool {
	if errors.Is(err, docker.ErrInvalidAuthorization) {
		return true
	}
	var status remoteerrors.ErrUnexpectedStatus
	return errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden)
}

// classify gives an error ECS's name.
func classify(image string, err error) error {
	switch {
	case isAuth(err):
		return &Error{"CannotPullContainerAuthError", image, err}
	case errdefs.IsNotFound(err):
		return &Error{"CannotPullImageManifestError", image, err}
	}
	return &Error{"CannotPullContainerError", image, err}
}
