package images_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/plimsoll-project/plimsoll/agent/images"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/daemon"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/testimage"
)

const namespace = "plimsoll-test"

// bed is a containerd, images over it, and a registry whose requests can be
// looked at and held up.
type bed struct {
	t      *testing.T
	client *client.Client
	images *images.Images
	server *httptest.Server
	host   string

	mu sync.Mutex
	// before is called with each request; true if it answered.
	before   func(http.ResponseWriter, *http.Request) bool
	requests []string
}

// newBed takes how the registry is served: plain, or with TLS.
func newBed(t *testing.T, start func(http.Handler) *httptest.Server) *bed {
	t.Helper()
	d := daemon.Start(t)
	b := &bed{t: t, client: d.Client(namespace)}
	t.Cleanup(func() { b.client.Close() })
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	b.server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		before := b.before
		if r.UserAgent() != "test" {
			b.requests = append(b.requests, r.Method+" "+r.URL.Path)
		}
		b.mu.Unlock()
		if before == nil || !before(w, r) {
			store.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(b.server.Close)
	u, err := url.Parse(b.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	b.host = u.Host
	// The machine's own credentials are none of the test's.
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	b.images = b.attach(filepath.Join(t.TempDir(), "certs.d"))
	return b
}

func (b *bed) attach(hostsDir string) *images.Images {
	return images.New(images.Config{
		Client: b.client, Namespace: namespace, HostsDir: hostsDir, Downloads: 2,
		Logger: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
	})
}

// answer has requests answered by f instead of the registry where f is true.
func (b *bed) answer(f func(http.ResponseWriter, *http.Request) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = f
}

// asked answers how many requests held the text, and forgets them.
func (b *bed) asked(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, r := range b.requests {
		if strings.Contains(r, text) {
			n++
		}
	}
	b.requests = nil
	return n
}

// image makes one that no other test has, with a layer of that many bytes.
func (b *bed) image(size int) v1.Image {
	b.t.Helper()
	content := make([]byte, size)
	if _, err := rand.Read(content); err != nil {
		b.t.Fatal(err)
	}
	return testimage.Image(b.t, map[string][]byte{"data": content}, nil)
}

// push puts an image into the registry and answers its digest.
func (b *bed) push(image v1.Image, ref string) string {
	b.t.Helper()
	to, err := name.ParseReference(b.host+"/"+ref, name.Insecure)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := remote.Write(to, image, remote.WithTransport(b.server.Client().Transport), remote.WithUserAgent("test")); err != nil {
		b.t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		b.t.Fatal(err)
	}
	b.asked("")
	return digest.String()
}

func (b *bed) pull(image string) images.Image {
	b.t.Helper()
	got, err := b.images.Pull(b.t.Context(), image, nil)
	if err != nil {
		b.t.Fatalf("pull %s: %v", image, err)
	}
	return got
}

// unpacked fails the test unless containerd has the image, ready for containers.
func (b *bed) unpacked(ref string) {
	b.t.Helper()
	ctx := namespaces.WithNamespace(b.t.Context(), namespace)
	image, err := b.client.GetImage(ctx, ref)
	if err != nil {
		b.t.Fatal(err)
	}
	if ok, err := image.IsUnpacked(ctx, "overlayfs"); err != nil || !ok {
		b.t.Errorf("%s is unpacked: %v, %v", ref, ok, err)
	}
}

func TestTagsFollowTheRegistry(t *testing.T) {
	b := newBed(t, httptest.NewServer)
	first := b.push(b.image(1000), "app:1")
	ref := b.host + "/app:1"
	want := images.Image{Ref: b.host + "/app@" + first, Digest: first}
	if got := b.pull(ref); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	b.unpacked(want.Ref)
	b.asked("")
	// Many launches ask once.
	for range 5 {
		b.pull(ref)
	}
	if n := b.asked(""); n != 0 {
		t.Errorf("%d requests for a tag that was just resolved", n)
	}
	// The digest needs no registry.
	if got := b.pull(want.Ref); got != want || b.asked("") != 0 {
		t.Errorf("by digest: %+v", got)
	}
	second := b.push(b.image(1000), "app:1")
	var got images.Image
	for range 50 {
		if got = b.pull(ref); got.Digest == second {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if got.Digest != second {
		t.Errorf("the tag moved to %s and is still %s", second, got.Digest)
	}
	// Without the registry, the last one is what runs, and with a new agent too.
	b.server.Close()
	b.images = b.attach("")
	if got := b.pull(ref); got.Digest != second {
		t.Errorf("without the registry the tag is %s, want %s", got.Digest, second)
	}
}

func TestErrorsHaveECSNames(t *testing.T) {
	b := newBed(t, httptest.NewServer)
	b.push(b.image(10), "app:1")
	var status int
	b.answer(func(w http.ResponseWriter, _ *http.Request) bool {
		if status != 0 {
			w.WriteHeader(status)
		}
		return status != 0
	})
	for _, c := range []struct {
		what, image, name string
		status            int
		requests          int // at most; 0 where any number will do
	}{
		{"no tag", b.host + "/app:2", "CannotPullImageManifestError", 0, 0},
		{"no repository", b.host + "/none:1", "CannotPullImageManifestError", 0, 0},
		{"no digest", b.host + "/app@sha256:" + strings.Repeat("1", 64), "CannotPullImageManifestError", 0, 0},
		{"refused", b.host + "/app:1", "CannotPullContainerAuthError", http.StatusForbidden, 2},
		{"a password is asked for", b.host + "/app:1", "CannotPullContainerAuthError", http.StatusUnauthorized, 0},
		{"broken", b.host + "/app:1", "CannotPullContainerError", http.StatusInternalServerError, 0},
		{"nobody listens", "127.0.0.1:1/app:403", "CannotPullContainerError", 0, 0},
		{"no name", "APP:1:2", "CannotPullContainerError", 0, 0},
	} {
		status = c.status
		b.asked("")
		_, err := b.images.Pull(t.Context(), c.image, nil)
		var e *images.Error
		if !errors.As(err, &e) || e.Name != c.name || e.Image != c.image || !strings.HasPrefix(err.Error(), c.name+": pull image "+c.image) {
			t.Errorf("%s: %v, want %s", c.what, err, c.name)
		}
		if n := b.asked(""); c.requests != 0 && n > c.requests {
			t.Errorf("%s: %d requests, want at most %d", c.what, n, c.requests)
		}
	}
}

func TestFailureThatPassesIsNotOne(t *testing.T) {
	b := newBed(t, httptest.NewServer)
	b.push(b.image(100_000), "app:1")
	var failed atomic.Int32
	b.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") || failed.Add(1) > 1 {
			return false
		}
		// The connection breaks in the middle of a layer.
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write([]byte("part"))
		panic(http.ErrAbortHandler)
	})
	b.unpacked(b.pull(b.host + "/app:1").Ref)
	if failed.Load() < 2 {
		t.Errorf("%d requests for blobs", failed.Load())
	}
}

func TestOneDownloadForAllAndProgress(t *testing.T) {
	b := newBed(t, httptest.NewServer)
	image := b.image(3 << 20)
	b.push(image, "app:1")
	b.push(image, "app:2")
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers[1].Digest()
	if err != nil {
		t.Fatal(err)
	}
	held := make(chan struct{})
	b.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.String()) {
			return false
		}
		content, err := layers[1].Compressed()
		if err != nil {
			t.Error(err)
			return false
		}
		defer content.Close()
		size, _ := layers[1].Size()
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.CopyN(w, content, size-1<<20)
		_ = http.NewResponseController(w).Flush()
		<-held
		_, _ = io.Copy(w, content)
		return true
	})
	var words sync.Map
	var once sync.Once
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			_, err := b.images.Pull(t.Context(), fmt.Sprintf("%s/app:%d", b.host, 1+n%2), func(text string) {
				words.Store(text, true)
				if strings.Contains(text, " of ") && !strings.Contains(text, ": 0B") {
					once.Do(func() { close(held) })
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := b.asked("GET /v2/app/blobs/" + layer.String()); n != 1 {
		t.Errorf("the layer was asked for %d times", n)
	}
	found := false
	words.Range(func(text, _ any) bool {
		found = found || strings.HasPrefix(text.(string), "Pulling image: 2") && strings.Contains(text.(string), "MiB of 3.0")
		return true
	})
	if !found {
		words.Range(func(text, _ any) bool { t.Log(text); return true })
		t.Error("nobody was told how far the download is")
	}
}

func TestDownloadEndsWithItsCaller(t *testing.T) {
	b := newBed(t, httptest.NewServer)
	b.push(b.image(1000), "app:1")
	asked, gone := make(chan struct{}, 10), make(chan struct{}, 10)
	b.answer(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		asked <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
		return true
	})
	ref := b.host + "/app:1"
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := b.images.Pull(ctx, ref, nil); left <- err }()
	<-asked
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	<-gone
	// Who asks next begins anew.
	b.answer(nil)
	b.unpacked(b.pull(ref).Ref)
}

func TestDownloadsAreBounded(t *testing.T) {
	b := newBed(t, httptest.NewServer)
	var now, most atomic.Int32
	for n := range 5 {
		b.push(b.image(1000), fmt.Sprintf("app%d:1", n))
	}
	downloading := sync.Map{}
	b.answer(func(_ http.ResponseWriter, r *http.Request) bool {
		repo := strings.Split(r.URL.Path, "/")[2]
		if strings.Contains(r.URL.Path, "/blobs/") {
			if _, known := downloading.LoadOrStore(repo, true); !known {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(50 * time.Millisecond)
				now.Add(-1)
			}
		}
		return false
	})
	var wg sync.WaitGroup
	for n := range 5 {
		wg.Go(func() {
			if _, err := b.images.Pull(t.Context(), fmt.Sprintf("%s/app%d:1", b.host, n), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() != 2 {
		t.Errorf("%d images were downloaded at once, want 2", most.Load())
	}
}

func TestClustersOwnRegistry(t *testing.T) {
	b := newBed(t, httptest.NewTLSServer)
	digest := b.push(b.image(1000), "app:1")
	pool := x509.NewCertPool()
	pool.AddCert(b.server.Certificate())
	const host = "registry.cluster.test"
	ref := host + "/app:1"
	b.images.SetRegistry(host, nil, nil)
	if _, err := b.images.Pull(t.Context(), ref, nil); err == nil || !strings.Contains(err.Error(), "no image registry") {
		t.Errorf("without endpoints: %v", err)
	}
	// The first endpoint is away.
	b.images.SetRegistry(host, []string{"127.0.0.1:1", b.host}, &tls.Config{RootCAs: pool, ServerName: "example.com"})
	if got := b.pull(ref); got.Digest != digest || got.Ref != host+"/app@"+digest {
		t.Errorf("got %+v", got)
	}
}

// TestOtherRegistries is how most private ones are: an authority of their own and
// a password that is changed for a token.
func TestOtherRegistries(t *testing.T) {
	b := newBed(t, httptest.NewTLSServer)
	digest := b.push(b.image(1000), "team/app:1")
	const user, password, token = "robot", "secret", "a-token"
	b.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			u, p, ok := r.BasicAuth()
			if !ok || u != user || p != password || r.URL.Query().Get("scope") != "repository:team/app:pull" {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			fmt.Fprintf(w, `{"token":%q}`, token)
			return true
		}
		if r.Header.Get("Authorization") == "Bearer "+token {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:team/app:pull"`, b.server.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	hosts := t.TempDir()
	b.images = b.attach(hosts)
	ref := b.host + "/team/app:1"
	if _, err := b.images.Pull(t.Context(), ref, nil); err == nil {
		t.Error("pulled without a password")
	}
	// certs.d says how the registry is reached, Docker's configuration who asks.
	dir := filepath.Join(hosts, strings.Replace(b.host, ":", "_", 1)+"_")
	write(t, filepath.Join(dir, "hosts.toml"), fmt.Sprintf("server = %q\n\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n  skip_verify = true\n", b.server.URL, b.server.URL))
	if _, err := b.images.Pull(t.Context(), ref, nil); err == nil || !strings.HasPrefix(err.Error(), "CannotPullContainerAuthError") {
		t.Errorf("without a password: %v", err)
	}
	write(t, filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"),
		fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, b.host, user, password))
	if got := b.pull(ref); got.Digest != digest {
		t.Errorf("got %+v", got)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
