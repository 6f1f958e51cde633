package images

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	dockerconfig "github.com/containerd/containerd/v2/core/remotes/docker/config"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// SetRegistry says where the cluster's registry is: images of that host are
// pulled from the endpoints (host:port) with that TLS configuration.
func (i *Images) SetRegistry(host string, endpoints []string, t *tls.Config) {
	own := &registry{host: host, client: &http.Client{Transport: transport(t)}}
	for _, e := range endpoints {
		own.hosts = append(own.hosts, docker.RegistryHost{Client: own.client, Host: e, Scheme: "https", Path: "/v2",
			Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve})
	}
	i.mu.Lock()
	before := i.own
	i.own = own
	i.mu.Unlock()
	before.client.CloseIdleConnections()
}

// registry is the cluster's own.
type registry struct {
	host   string
	hosts  []docker.RegistryHost
	client *http.Client
}

// resolver asks the registries, the cluster's own under its endpoints.
func (i *Images) resolver(ctx context.Context) remotes.Resolver {
	i.mu.Lock()
	own := i.own
	i.mu.Unlock()
	others := dockerconfig.ConfigureHosts(ctx, dockerconfig.HostOptions{
		HostDir: dockerconfig.HostDirFromRoot(i.cfg.HostsDir), Credentials: credentials,
		UpdateClient: func(c *http.Client) error {
			t, ok := c.Transport.(*http.Transport)
			if ok {
				t.ResponseHeaderTimeout = headerTimeout
			}
			return nil
		},
	})
	return docker.NewResolver(docker.ResolverOptions{Hosts: func(host string) ([]docker.RegistryHost, error) {
		switch {
		case own.host == "" || host != own.host:
			return others(host)
		case len(own.hosts) == 0:
			return nil, errors.New("the cluster has no image registry")
		}
		return slices.Clone(own.hosts), nil
	}})
}

// credentials are a registry's in the agent's Docker or Podman configuration
// ($DOCKER_CONFIG, $HOME/.docker/config.json, $REGISTRY_AUTH_FILE), with their
// credential helpers.
func credentials(host string) (user, secret string, err error) {
	if host == "registry-1.docker.io" {
		host = name.DefaultRegistry
	}
	r, err := name.NewRegistry(host)
	if err != nil {
		return "", "", err
	}
	found, err := authn.DefaultKeychain.Resolve(r)
	if err != nil {
		return "", "", fmt.Errorf("credentials for %s: %w", host, err)
	}
	c, err := found.Authorization()
	if err != nil {
		return "", "", fmt.Errorf("credentials for %s: %w", host, err)
	}
	if c.IdentityToken != "" {
		return "", c.IdentityToken, nil
	}
	return c.Username, c.Password, nil
}

const headerTimeout = time.Minute

func transport(t *tls.Config) *http.Transport {
	return &http.Transport{
		TLSClientConfig: t, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, Proxy: http.ProxyFromEnvironment,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: headerTimeout, MaxIdleConnsPerHost: 4,
		IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true,
	}
}

// final says whether the same call would fail again: a registry said that there
// is no such image, or refused who asked. The types are asked, not the text: that
// holds ports and digests, which contain any number.
func final(err error) bool { return errdefs.IsNotFound(err) || isAuth(err) }

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
