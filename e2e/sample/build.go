package sample

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// app is the server's package.
const app = "github.com/plimsoll-project/plimsoll/e2e/sample/app"

// Image says what is in the image.
type Image struct {
	// Version is what the server says it is, and the image's tag.
	Version string
	// Busybox is a static busybox of the host's (Debian's busybox-static) that
	// gives the image a shell; empty is none.
	Busybox string
}

// Build builds version of the image into the file out; see Image.Build.
func Build(ctx context.Context, version, out string) error {
	return Image{Version: version}.Build(ctx, out)
}

// Build compiles the server with the go tool, which must be on the PATH and the
// working directory inside this module, and writes the image to the file out: a
// tar archive that is an OCI layout and loads into Docker too.
func (i Image) Build(ctx context.Context, out string) error {
	dir, err := os.MkdirTemp("", "plimsoll-sample-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "sample")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+i.Version, "-o", program, app)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the sample server: %w: %s", err, strings.TrimSpace(string(text)))
	}
	image, err := i.assemble(program)
	if err != nil {
		return fmt.Errorf("assemble the sample image: %w", err)
	}
	if err := write(image, i.Version, out); err != nil {
		return fmt.Errorf("write the sample image: %w", err)
	}
	return nil
}

// assemble puts the program over a base that all versions share.
func (i Image) assemble(program string) (v1.Image, error) {
	base := []entry{
		{name: "bin/", mode: 0o755},
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{name: "tmp/", mode: 0o1777},
	}
	if i.Busybox != "" {
		data, err := os.ReadFile(i.Busybox)
		if err != nil {
			return nil, err
		}
		base = append(base, entry{name: "bin/busybox", mode: 0o755, data: data})
		for _, name := range applets {
			base = append(base, entry{name: "bin/" + name, link: "busybox"})
		}
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	for _, entries := range [][]entry{base, {{name: "sample", mode: 0o755, data: data}}} {
		layer, err := layerOf(entries)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return nil, err
		}
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Architecture, file.OS = goarch(), "linux"
	file.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	file.Config = v1.Config{
		Entrypoint: []string{"/sample"}, WorkingDir: "/", StopSignal: "SIGTERM",
		Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Labels:       map[string]string{"org.opencontainers.image.title": "sample", "org.opencontainers.image.version": i.Version},
	}
	return mutate.ConfigFile(image, file)
}

// applets are busybox's programs that public examples of task definitions use.
var applets = []string{"sh", "awk", "cat", "cp", "date", "echo", "env", "false", "grep", "head", "id", "ls", "mkdir",
	"mount", "rm", "sleep", "tail", "touch", "true", "wc", "wget"}

// entry is a file, a directory (its name ends in /) or a link.
type entry struct {
	name, link string
	mode       int64
	data       []byte
}

func layerOf(entries []entry) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
		switch {
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		case e.link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.link, 0o777
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithMediaType(types.OCILayer))
}
