package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/plimsoll-project/plimsoll/controlplane/iam"
	"github.com/plimsoll-project/plimsoll/controlplane/registry"
)

// newRegistry is a client of a real registry over TLS, as the user ann.
func newRegistry(t *testing.T) *Registry {
	t.Helper()
	authority, err := iam.NewAuthority(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	h, err := registry.New(ctx, registry.Config{Dir: t.TempDir(), Passwords: iam.Tokens{Authority: authority}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := iam.NewServerCertificate(authority, "r1")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
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
	t.Cleanup(func() {
		s.Close()
		<-served
		handling.Wait()
	})
	user, err := authority.IssueUser("ann", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRegistry(listener.Addr().String(), &tls.Config{RootCAs: authority.Pool(), ServerName: iam.ServerName, Certificates: []tls.Certificate{*user}})
	t.Cleanup(r.Close)
	return r
}

func newRandom(t testing.TB) v1.Image {
	t.Helper()
	image, err := random.Image(1<<14, 2)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func digestOf(t testing.TB, i interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// layoutOf writes a layout directory.
func layoutOf(t testing.TB, write func(layout.Path) error) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = write(p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// tarOf packs a directory, as `tar -C DIR .` does.
func tarOf(t testing.TB, dir string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return fileOf(t, b.Bytes())
}

func fileOf(t testing.TB, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func gzipOf(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err = w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return fileOf(t, b.Bytes())
}

func dockerOf(t testing.TB, images map[string]v1.Image) string {
	t.Helper()
	all := map[name.Tag]v1.Image{}
	for s, i := range images {
		tag, err := name.NewTag(s)
		if err != nil {
			t.Fatal(err)
		}
		all[tag] = i
	}
	file := filepath.Join(t.TempDir(), "docker.tar")
	if err := tarball.MultiWriteToFile(file, all); err != nil {
		t.Fatal(err)
	}
	return file
}

func named(s string) layout.Option { return layout.WithAnnotations(map[string]string{refName: s}) }

func TestEveryFormIsPushed(t *testing.T) {
	r := newRegistry(t)
	one, other := newRandom(t), newRandom(t)
	index, err := random.Index(1<<12, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	single := layoutOf(t, func(p layout.Path) error { return p.AppendImage(one) })
	several := layoutOf(t, func(p layout.Path) error {
		return errors.Join(p.AppendImage(one, named("1")), p.AppendImage(other, named("docker.io/team/app:2")))
	})
	nested := layoutOf(t, func(p layout.Path) error { return p.AppendIndex(index) })
	docker := dockerOf(t, map[string]v1.Image{"some/thing:9": one})
	two := dockerOf(t, map[string]v1.Image{"app:1": one, "team/app:2": other})
	for what, c := range map[string]struct{ file, dst, digest string }{
		"layout directory":           {single, "dir", digestOf(t, one)},
		"layout archive":             {tarOf(t, single), "tar:1", digestOf(t, one)},
		"layout archive, gzip":       {gzipOf(t, tarOf(t, single)), "tgz:1", digestOf(t, one)},
		"layout of two, by tag":      {several, "any:1", digestOf(t, one)},
		"layout of two, by name":     {tarOf(t, several), "team/app:2", digestOf(t, other)},
		"layout of an index":         {tarOf(t, nested), "multi:1", digestOf(t, index)},
		"layout of an index, gzip":   {gzipOf(t, tarOf(t, nested)), "multi:2", digestOf(t, index)},
		"docker-archive":             {docker, "docker:1", ""},
		"docker-archive, gzip":       {gzipOf(t, docker), "docker:2", ""},
		"docker-archive of two":      {two, "team/app:2", ""},
		"with the registry's name":   {single, Host + "/full:1", digestOf(t, one)},
		"the same once more, no tag": {single, "dir", digestOf(t, one)},
	} {
		t.Run(what, func(t *testing.T) {
			var done, total int64
			pushed, err := r.Push(t.Context(), c.file, c.dst, func(d, t int64) { done, total = d, t })
			if err != nil {
				t.Fatal(err)
			}
			if c.digest != "" && pushed.Digest != c.digest {
				t.Errorf("digest is %s, want %s", pushed.Digest, c.digest)
			}
			if pushed.Size <= 0 || done > total {
				t.Errorf("size is %d, progress %d of %d", pushed.Size, done, total)
			}
			ref, err := ParseName(c.dst)
			if err != nil {
				t.Fatal(err)
			}
			d, err := remote.Get(ref, r.options(t.Context())...)
			if err != nil || d.Digest.String() != pushed.Digest {
				t.Fatalf("the registry has %v, %v", d, err)
			}
			if d.MediaType.IsIndex() {
				return
			}
			image, err := d.Image()
			if err != nil {
				t.Fatal(err)
			}
			want := one
			if strings.HasSuffix(c.dst, "team/app:2") {
				want = other
			}
			if got, had := diffIDs(t, image), diffIDs(t, want); got != had {
				t.Errorf("layers are %s, want %s", got, had)
			}
		})
	}
}

// diffIDs reads an image's layers and answers their uncompressed digests.
func diffIDs(t *testing.T, image v1.Image) string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, l := range layers {
		id, err := l.DiffID()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, id.String())
	}
	return strings.Join(all, " ")
}

func TestImageOfOnePlatformSavedWithTheIndexOfAll(t *testing.T) {
	r := newRegistry(t)
	kept, absent := newRandom(t), newRandom(t)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: kept, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: absent, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	dir := layoutOf(t, func(p layout.Path) error { return p.AppendIndex(index) })
	d, _ := absent.Digest()
	if err := os.Remove(filepath.Join(dir, blobName(d))); err != nil {
		t.Fatal(err)
	}
	pushed, err := r.Push(t.Context(), dir, "partial:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	ref, _ := ParseName("partial:1")
	got, err := remote.Index(ref, r.options(t.Context())...)
	if err != nil {
		t.Fatal(err)
	}
	m, err := got.IndexManifest()
	if err != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest.String() != digestOf(t, kept) || digestOf(t, got) != pushed.Digest {
		t.Errorf("the registry has %+v, %v", m, err)
	}
}

func TestLayoutThatIsItselfAnIndexOfPlatforms(t *testing.T) {
	r := newRegistry(t)
	amd, arm := newRandom(t), newRandom(t)
	dir := layoutOf(t, func(p layout.Path) error {
		return errors.Join(p.AppendImage(amd, layout.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"})),
			p.AppendImage(arm, layout.WithPlatform(v1.Platform{OS: "linux", Architecture: "arm64"})))
	})
	if _, err := r.Push(t.Context(), dir, "platforms:1", nil); err != nil {
		t.Fatal(err)
	}
	ref, _ := ParseName("platforms:1")
	image, err := remote.Image(ref, append(r.options(t.Context()), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "arm64"}))...)
	if err != nil || digestOf(t, image) != digestOf(t, arm) {
		t.Errorf("arm64's image is another: %v", err)
	}
}

func TestFilesThatHoldNoImage(t *testing.T) {
	r := newRegistry(t)
	two := layoutOf(t, func(p layout.Path) error {
		return errors.Join(p.AppendImage(newRandom(t), named("1")), p.AppendImage(newRandom(t)))
	})
	damaged := layoutOf(t, func(p layout.Path) error { return p.AppendImage(newRandom(t)) })
	if err := filepath.WalkDir(filepath.Join(damaged, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && len(b) > 1<<12 { // a layer
			b[100] ^= 1
			err = os.WriteFile(path, b, 0o600)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	version := layoutOf(t, func(p layout.Path) error {
		return errors.Join(p.AppendImage(newRandom(t)), os.WriteFile(filepath.Join(string(p), "oci-layout"), []byte(`{"imageLayoutVersion":"2"}`), 0o600))
	})
	rootfs := t.TempDir()
	if err := os.WriteFile(filepath.Join(rootfs, "etc"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(tarOf(t, layoutOf(t, func(p layout.Path) error { return p.AppendImage(newRandom(t)) })))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		file string
		is   error
		says string
	}{
		"nothing":                   {filepath.Join(t.TempDir(), "none"), fs.ErrNotExist, "none"},
		"an empty file":             {fileOf(t, nil), ErrNoImage, ""},
		"a text":                    {fileOf(t, []byte(strings.Repeat("FROM scratch\n", 100))), ErrNoImage, ""},
		"a device":                  {os.DevNull, ErrNoImage, ""},
		"a directory of others":     {rootfs, ErrNoImage, ""},
		"a file system in tar":      {tarOf(t, rootfs), ErrNoImage, ""},
		"gzip of a text":            {gzipOf(t, fileOf(t, []byte(strings.Repeat("x", 2000)))), ErrNoImage, ""},
		"damaged gzip":              {fileOf(t, []byte{0x1f, 0x8b, 8, 0}), nil, "uncompress"},
		"an archive cut off":        {fileOf(t, whole[:len(whole)/2]), nil, "EOF"},
		"two images, neither named": {two, nil, "it holds 2 images, 1, (no name), and none of them is named app:7"},
		"an empty layout":           {layoutOf(t, func(layout.Path) error { return nil }), nil, "names no image"},
		"another layout's version":  {version, nil, `version "2"`},
		"two of docker's":           {dockerOf(t, map[string]v1.Image{"a:1": newRandom(t), "b:1": newRandom(t)}), nil, "it holds 2 images"},
		"a damaged layer":           {damaged, nil, "DIGEST_INVALID"},
		"a manifest.json of others": {tarOf(t, manifestJSON(t, `{"name":"extension"}`)), nil, "docker-archive"},
		"a manifest.json of none":   {tarOf(t, manifestJSON(t, `[]`)), nil, "names no image"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := r.Push(t.Context(), c.file, "app:7", func(_, _ int64) {})
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v", err)
			}
		})
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "plim-image-*")); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func manifestJSON(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestList(t *testing.T) {
	r := newRegistry(t)
	if got, err := r.List(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("an empty registry has %v, %v", got, err)
	}
	index, err := random.Index(1<<12, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	one := layoutOf(t, func(p layout.Path) error { return p.AppendImage(newRandom(t)) })
	multi := layoutOf(t, func(p layout.Path) error { return p.AppendIndex(index) })
	var want []Image
	for _, c := range []struct{ file, dst string }{{one, "b/app:2"}, {one, "b/app:1"}, {multi, "a:x"}} {
		pushed, err := r.Push(t.Context(), c.file, c.dst, nil)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, pushed)
	}
	want[1].Tags = []string{"1", "2"}
	want = []Image{want[2], want[1]}
	got, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("images (-want +got):\n%s", d)
	}
	ref, _ := ParseName("a:x")
	if err := remote.Delete(ref.Digest(want[0].Digest), r.options(t.Context())...); err != nil {
		t.Fatal(err)
	}
	if got, err := r.List(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("after a deletion: %v, %v", got, err)
	}
}

func TestUnreachableAndCancelled(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := listener.Addr().String()
	listener.Close()
	r := NewRegistry(endpoint, &tls.Config{})
	file := layoutOf(t, func(p layout.Path) error { return p.AppendImage(newRandom(t)) })
	if _, err := r.Push(t.Context(), file, "app:1", func(_, _ int64) {}); err == nil || !strings.Contains(err.Error(), endpoint) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newRegistry(t).Push(ctx, file, "app:1", func(_, _ int64) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"app": "app:latest", "app:1": "app:1", "team/app:v1.2": "team/app:v1.2", Host + "/app:1": "app:1",
		"": "", "App:1": "", "app:": "", "app:a b": "", "app@sha256:" + strings.Repeat("0", 64): "", "docker.io/library/app:1": "", "localhost:5000/app:1": "", "localhost/app": "",
	} {
		tag, err := ParseName(in)
		got := ""
		if err == nil {
			got = tag.RepositoryStr() + ":" + tag.TagStr()
		} else if strings.Contains(err.Error(), Host) && !strings.Contains(err.Error(), "another registry") {
			t.Errorf("%q: %v", in, err)
		}
		if got != want {
			t.Errorf("%q is %q, want %q (%v)", in, got, want, err)
		}
	}
}

// FuzzOpen: whatever a file holds, it is an image or an error.
func FuzzOpen(f *testing.F) {
	small, err := random.Image(16, 1)
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range []string{
		tarOf(f, layoutOf(f, func(p layout.Path) error { return p.AppendImage(small) })),
		dockerOf(f, map[string]v1.Image{"a:1": small}),
	} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{0x1f, 0x8b})
	ref, err := ParseName("a:1")
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := os.CreateTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file.Name())
		_, err = file.Write(data)
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		image, done, err := open(file.Name(), ref)
		if err != nil {
			return
		}
		defer done()
		_, _ = size(image) // It must not panic.
	})
}
