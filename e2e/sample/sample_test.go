package sample

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestBuildIsReproducibleAndReadableAsBothFormats(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	first, second := filepath.Join(dir, "1.tar"), filepath.Join(dir, "2.tar")
	for _, out := range []string{first, second} {
		if err := Build(ctx, "7", out); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := os.ReadFile(first)
	b, _ := os.ReadFile(second)
	if len(a) == 0 || !bytes.Equal(a, b) {
		t.Error("two builds of one version differ")
	}
	image, err := tarball.ImageFromPath(first, nil)
	if err != nil {
		t.Fatalf("read as docker-archive: %v", err)
	}
	c, err := image.ConfigFile()
	if err != nil || len(c.Config.Entrypoint) != 1 || c.Config.Entrypoint[0] != "/sample" {
		t.Errorf("configuration is %+v, %v", c, err)
	}
	layout := filepath.Join(dir, "layout")
	if err := os.Mkdir(layout, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-xf", first, "-C", layout).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	if out, err := exec.Command("skopeo", "inspect", "oci:"+layout+":7").CombinedOutput(); err != nil || !strings.Contains(string(out), "linux") {
		t.Errorf("skopeo reads the layout: %v: %s", err, out)
	}
}

func TestBuildSaysWhatFailed(t *testing.T) {
	if err := Build(t.Context(), "1", filepath.Join(t.TempDir(), "no", "such", "dir.tar")); err == nil || !strings.Contains(err.Error(), "dir.tar") {
		t.Errorf("error is %v", err)
	}
}

func TestVersionsShareTheirBaseWithAShell(t *testing.T) {
	dir := t.TempDir()
	busybox := filepath.Join(dir, "busybox")
	if err := os.WriteFile(busybox, []byte("a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	var first []v1.Layer
	for _, version := range []string{"1", "2"} {
		out := filepath.Join(dir, version+".tar")
		if err := (Image{Version: version, Busybox: busybox}).Build(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		image, err := tarball.ImageFromPath(out, nil)
		if err != nil {
			t.Fatal(err)
		}
		layers, err := image.Layers()
		if err != nil || len(layers) != 2 {
			t.Fatalf("%d layers, %v", len(layers), err)
		}
		if first == nil {
			first = layers
			continue
		}
		for i, same := range []bool{true, false} {
			a, _ := first[i].Digest()
			b, _ := layers[i].Digest()
			if (a == b) != same {
				t.Errorf("layer %d: %s and %s", i, a, b)
			}
		}
	}
	r, err := first[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	files := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		files[h.Name] = h.Linkname
	}
	if files["bin/sh"] != "busybox" || files["bin/awk"] != "busybox" {
		t.Errorf("files are %v", files)
	}
}
