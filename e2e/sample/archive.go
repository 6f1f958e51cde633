package sample

import (
	"archive/tar"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// goarch is the architecture that the go tool builds for.
func goarch() string { return cmp.Or(os.Getenv("GOARCH"), runtime.GOARCH) }

// write writes the image as an OCI layout whose archive has Docker's
// manifest.json as well.
func write(image v1.Image, version, out string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	a := &archive{w: tar.NewWriter(f), have: map[string]bool{}}
	if err := a.image(image, version); err != nil {
		return err
	}
	if err := a.w.Close(); err != nil {
		return err
	}
	return f.Close()
}

type archive struct {
	w    *tar.Writer
	have map[string]bool
}

// image writes the image's blobs and the files that name them.
func (a *archive) image(image v1.Image, version string) error {
	if err := a.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	docker := dockerManifest{RepoTags: []string{"sample:" + version}}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return err
		}
		r, err := layer.Compressed()
		if err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return err
		}
		docker.Layers = append(docker.Layers, blob(digest))
		if err := a.file(blob(digest), data); err != nil {
			return err
		}
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	configDigest, err := image.ConfigName()
	if err != nil {
		return err
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	docker.Config = blob(configDigest)
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{
		MediaType: types.OCIManifestSchema1, Size: int64(len(manifest)), Digest: digest,
		Platform:    &v1.Platform{OS: "linux", Architecture: goarch()},
		Annotations: map[string]string{"org.opencontainers.image.ref.name": version},
	}}})
	if err != nil {
		return err
	}
	dockerJSON, err := json.Marshal([]dockerManifest{docker})
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{docker.Config, config}, {blob(digest), manifest}, {"index.json", index}, {"manifest.json", dockerJSON}} {
		if err := a.file(f.name, f.data); err != nil {
			return err
		}
	}
	return nil
}

// dockerManifest is one image in a docker archive's manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func blob(h v1.Hash) string { return fmt.Sprintf("blobs/%s/%s", h.Algorithm, h.Hex) }

// file writes a file once.
func (a *archive) file(name string, data []byte) error {
	if a.have[name] {
		return nil
	}
	a.have[name] = true
	if err := a.w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := a.w.Write(data)
	return err
}
