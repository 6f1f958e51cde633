package testimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const program = "github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/testimage/program"

// Build compiles the test program and answers its image: entry point
// /bin/behave, stop signal SIGQUIT, users root, web (1000, groups web and
// extra) and nobody.
func Build(t testing.TB) v1.Image {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "behave")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, program)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test program: %v\n%s", err, out)
	}
	content, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	return Image(t, map[string][]byte{
		"bin/behave": content,
		"etc/passwd": []byte("root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"),
		"etc/group":  []byte("root:x:0:\nweb:x:1000:\nextra:x:2000:web\nother:x:3000:\n"),
	}, func(c *v1.Config) {
		c.Entrypoint = []string{"/bin/behave"}
		c.Env = []string{"PATH=/bin", "FROM=image"}
		c.WorkingDir = "/work"
		c.StopSignal = "SIGQUIT"
	})
}

// Image packs files into an image of two layers, so that its root filesystem is
// a real overlay.
func Image(t testing.TB, files map[string][]byte, configure func(*v1.Config)) v1.Image {
	t.Helper()
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	base := layer(t, map[string][]byte{"base": []byte("base\n")})
	top := layer(t, files)
	image, err := mutate.AppendLayers(image, base, top)
	if err != nil {
		t.Fatal(err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	if configure != nil {
		configure(&file.Config)
	}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		t.Fatal(err)
	}
	return image
}

func layer(t testing.TB, files map[string][]byte) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Archive writes the image as a tar of an OCI layout and answers the archive's
// path. name is the reference that it is given inside.
func Archive(t testing.TB, image v1.Image, name string) string {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{"io.containerd.image.name": name})); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "image.tar")
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", string(path), "-cf", archive, ".").CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("pack layout: %w: %s", err, out))
	}
	return archive
}
