package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/plimsoll-project/plimsoll/controlplane/iam"
)

// lab is a registry over TLS as plimd serves it.
type lab struct {
	*testing.T
	authority *iam.Authority
	tokens    iam.Tokens
	host      string // host:port
	dir       string
	log       *buffer
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(t *testing.T) *lab {
	t.Helper()
	l := &lab{T: t, dir: t.TempDir(), log: &buffer{}}
	var err error
	if l.authority, err = iam.NewAuthority(time.Now); err != nil {
		t.Fatal(err)
	}
	l.tokens = iam.Tokens{Authority: l.authority}
	l.serve()
	return l
}

// serve starts the registry over what its directory holds.
func (l *lab) serve() {
	l.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l.Cleanup(cancel)
	h, err := New(ctx, Config{Dir: l.dir, Passwords: l.tokens, Logger: slog.New(slog.NewTextHandler(l.log, nil))})
	if err != nil {
		l.Fatal(err)
	}
	cert, err := iam.NewServerCertificate(l.authority, "r1")
	if err != nil {
		l.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.Fatal(err)
	}
	// Close does not wait for the handler of a client that went away.
	var handling sync.WaitGroup
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handling.Add(1)
		defer handling.Done()
		h.ServeHTTP(w, r)
	})
	s := &http.Server{Handler: counted, TLSConfig: cert.ServerTLS(), ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(listener, "", "") }()
	l.Cleanup(func() {
		s.Close()
		<-served
		handling.Wait()
	})
	l.host = listener.Addr().String()
}

// as is a client with the identity's certificate; nil is none.
func (l *lab) as(cert *tls.Certificate) *http.Transport {
	c := &tls.Config{RootCAs: l.authority.Pool(), ServerName: iam.ServerName}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	tr := &http.Transport{TLSClientConfig: c}
	l.Cleanup(tr.CloseIdleConnections)
	return tr
}

func (l *lab) user() *tls.Certificate {
	l.Helper()
	c, err := l.authority.IssueUser("ann", time.Hour)
	if err != nil {
		l.Fatal(err)
	}
	return c
}

func (l *lab) agent() *tls.Certificate {
	l.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		l.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		l.Fatal(err)
	}
	der, err := l.authority.IssueAgent(csr, "c", "i")
	if err != nil {
		l.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (l *lab) image() v1.Image {
	l.Helper()
	image, err := random.Image(1<<16, 2)
	if err != nil {
		l.Fatal(err)
	}
	return image
}

func (l *lab) tag(s string) name.Tag {
	l.Helper()
	t, err := name.NewTag(l.host + "/" + s)
	if err != nil {
		l.Fatal(err)
	}
	return t
}

func (l *lab) password(readOnly bool) authn.Authenticator {
	l.Helper()
	user, password, _, err := l.tokens.RegistryPassword(time.Hour, readOnly)
	if err != nil {
		l.Fatal(err)
	}
	return &authn.Basic{Username: user, Password: password}
}

// status is the HTTP status behind an error: 200 for none.
func status(err error) int {
	var t *transport.Error
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &t):
		return t.StatusCode
	}
	return 0
}

func TestWhoMayPullAndPush(t *testing.T) {
	l := start(t)
	image := l.image()
	if err := remote.Write(l.tag("app:1"), image, remote.WithTransport(l.as(l.user()))); err != nil {
		t.Fatal(err)
	}
	server, err := l.authority.IssueServer("r2")
	if err != nil {
		t.Fatal(err)
	}
	wrong := &authn.Basic{Username: iam.RegistryUser, Password: "wrong"}
	for who, c := range map[string]struct {
		cert       *tls.Certificate
		auth       authn.Authenticator
		pull, push int
	}{
		"nobody":                            {nil, authn.Anonymous, 401, 401},
		"a user":                            {l.user(), authn.Anonymous, 200, 200},
		"a server":                          {server, authn.Anonymous, 200, 200},
		"an agent":                          {l.agent(), authn.Anonymous, 200, 403},
		"a password to pull":                {nil, l.password(true), 200, 403},
		"a password to push":                {nil, l.password(false), 200, 200},
		"a wrong password":                  {nil, wrong, 401, 401},
		"a user who gives a wrong password": {l.user(), wrong, 401, 401},
	} {
		options := []remote.Option{remote.WithTransport(l.as(c.cert)), remote.WithAuth(c.auth)}
		_, err := remote.Get(l.tag("app:1"), options...)
		if got := status(err); got != c.pull {
			t.Errorf("%s pulls: %d, want %d (%v)", who, got, c.pull, err)
		}
		err = remote.Write(l.tag("app:2"), l.image(), options...)
		if got := status(err); got != c.push {
			t.Errorf("%s pushes: %d, want %d (%v)", who, got, c.push, err)
		}
		err = remote.Delete(l.tag("none").Digest("sha256:"+strings.Repeat("0", 64)), options...)
		if got := status(err); got != c.push && (got != 404 || c.push != 200) {
			t.Errorf("%s deletes: %d (%v)", who, got, err)
		}
	}
	if out := l.log.String(); strings.Contains(out, "level=INFO") || strings.Contains(out, "level=ERROR") {
		t.Errorf("it is not quiet: %s", out)
	}
}

func TestRefusalsAreInTheSpecificationsForm(t *testing.T) {
	l := start(t)
	for _, path := range []string{"/v2/", "/v2/app/manifests/1", "/", "/debug/vars"} {
		resp, err := (&http.Client{Transport: l.as(nil)}).Get("https://" + l.host + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != `Basic realm="Plimsoll"` || !strings.HasPrefix(string(body), `{"errors":[{"code":"UNAUTHORIZED"`) {
			t.Errorf("%s: %d %v %s", path, resp.StatusCode, resp.Header, body)
		}
	}
}

func TestImagesAreListedDeletedAndOutliveARestart(t *testing.T) {
	l := start(t)
	options := remote.WithTransport(l.as(l.user()))
	image := l.image()
	for _, tag := range []string{"app:1", "app:2", "team/other:x"} {
		if err := remote.Write(l.tag(tag), image, options); err != nil {
			t.Fatal(err)
		}
	}
	l.serve() // a second process's
	repositories, err := remote.Catalog(t.Context(), l.tag("x").Registry, options)
	if err != nil || strings.Join(repositories, " ") != "app team/other" {
		t.Errorf("repositories are %v, %v", repositories, err)
	}
	tags, err := remote.List(l.tag("app").Repository, options)
	if err != nil || strings.Join(tags, " ") != "1 2" {
		t.Errorf("tags are %v, %v", tags, err)
	}
	pulled, err := remote.Image(l.tag("app:1"), options)
	if err != nil {
		t.Fatal(err)
	}
	layers, _ := pulled.Layers()
	for _, layer := range layers {
		r, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
		r.Close()
	}
	digest, _ := image.Digest()
	if err := remote.Delete(l.tag("app").Digest(digest.String()), options); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Get(l.tag("app:1"), options); status(err) != 404 {
		t.Errorf("a deleted image is still there: %v", err)
	}
	if _, err := remote.Get(l.tag("team/other:x"), options); err != nil {
		t.Errorf("another repository's image went with it: %v", err)
	}
}

// skopeo runs the program with the files of the lab's authority and user.
func (l *lab) skopeo(args ...string) (string, error) {
	l.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "skopeo", args...).CombinedOutput()
	return string(out), err
}

// certs is a directory of certificates as docker and skopeo take it.
func (l *lab) certs(cert *tls.Certificate) string {
	l.Helper()
	dir := l.TempDir()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			l.Fatal(err)
		}
	}
	write("ca.crt", "CERTIFICATE", l.authority.Certificate().Raw)
	if cert != nil {
		key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		if err != nil {
			l.Fatal(err)
		}
		write("client.cert", "CERTIFICATE", cert.Certificate[0])
		write("client.key", "PRIVATE KEY", key)
	}
	return dir
}

func TestSkopeo(t *testing.T) {
	l := start(t)
	dir := t.TempDir()
	p, err := layout.Write(filepath.Join(dir, "in"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(l.image()); err != nil {
		t.Fatal(err)
	}
	user, password, _, err := l.tokens.RegistryPassword(time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	in, app := "oci:"+string(p), "docker://"+l.host+"/skopeo/app:1"
	policy := []string{"--insecure-policy", "copy", "-q"}
	anonymous, admin := l.certs(nil), l.certs(l.user())
	if out, err := l.skopeo(append(policy, "--dest-cert-dir", anonymous, "--dest-creds", user+":"+password, in, app)...); err != nil {
		t.Fatalf("push with a password: %v: %s", err, out)
	}
	if out, err := l.skopeo(append(policy, "--dest-cert-dir", anonymous, "--dest-creds", user+":wrong", in, app)...); err == nil || !strings.Contains(out, "unauthorized") {
		t.Errorf("push with a wrong password: %v: %s", err, out)
	}
	if out, err := l.skopeo(append(policy, "--src-cert-dir", anonymous, app, "dir:"+filepath.Join(dir, "nobody"))...); err == nil {
		t.Errorf("nobody pulled: %s", out)
	}
	if out, err := l.skopeo(append(policy, "--src-cert-dir", l.certs(l.agent()), app, "dir:"+filepath.Join(dir, "agent"))...); err != nil {
		t.Errorf("pull as an agent: %v: %s", err, out)
	}
	if out, err := l.skopeo("list-tags", "--cert-dir", admin, "docker://"+l.host+"/skopeo/app"); err != nil || !strings.Contains(out, `"1"`) {
		t.Errorf("list: %v: %s", err, out)
	}
	if out, err := l.skopeo("delete", "--cert-dir", admin, app); err != nil {
		t.Errorf("delete: %v: %s", err, out)
	}
	if out, err := l.skopeo("inspect", "--cert-dir", admin, app); err == nil {
		t.Errorf("it is still there: %s", out)
	}
}
