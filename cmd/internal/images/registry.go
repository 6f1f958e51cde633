package images

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Host is the cluster's registry in references to images.
const Host = "registry.plimsoll.internal"

// jobs is how many blobs or manifests are under way at once.
const jobs = 4

// Registry is the cluster's image registry as a client sees it. It is safe for
// concurrent use.
type Registry struct {
	transport *http.Transport
	endpoint  string
}

// NewRegistry is a client of the registry at the endpoint (host:port), under a
// client certificate and the cluster's authority. The caller closes it.
func NewRegistry(endpoint string, tls *tls.Config) *Registry {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &Registry{endpoint: endpoint, transport: &http.Transport{
		// References name Host; connections go to the endpoint, and through no
		// proxy.
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, endpoint)
		},
		TLSClientConfig: tls.Clone(), TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: jobs, IdleConnTimeout: 30 * time.Second,
	}}
}

// Close closes the connections that are idle.
func (r *Registry) Close() { r.transport.CloseIdleConnections() }

func (r *Registry) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(r.transport), remote.WithJobs(jobs)}
}

func (r *Registry) errorf(err error, format string, args ...any) error {
	return fmt.Errorf("%s (registry at %s): %w", fmt.Sprintf(format, args...), r.endpoint, err)
}

// ParseName parses NAME[:TAG] of an image in the cluster's registry, with Host
// before it or not. The tag is latest if it is not given.
func ParseName(s string) (name.Tag, error) {
	text := strings.TrimPrefix(s, Host+"/")
	if strings.Contains(text, "@") {
		return name.Tag{}, fmt.Errorf("%q names a digest: an image is pushed to NAME:TAG", s)
	}
	if first, _, ok := strings.Cut(text, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return name.Tag{}, fmt.Errorf("%q names another registry: give NAME:TAG, or %s/NAME:TAG", s, Host)
	}
	if repository, _, _ := strings.Cut(text, ":"); repository != strings.ToLower(repository) {
		return name.Tag{}, fmt.Errorf("%q has capital letters before its tag: registries take lower case alone", s)
	}
	tag, err := name.NewTag(Host + "/" + text)
	if err != nil {
		return name.Tag{}, fmt.Errorf("%q is not NAME:TAG: %s", s, cmp.Or(reason(err), err.Error()))
	}
	return tag, nil
}

// reason is the library's message without the reference, which holds Host.
func reason(err error) string {
	_, after, _ := strings.Cut(err.Error(), ": ")
	return after
}
