package images

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func blobName(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

// ociIndex is an index in an OCI layout; it is a v1.ImageIndex.
type ociIndex struct {
	files     files
	raw       []byte
	mediaType types.MediaType
	manifest  *v1.IndexManifest
}

func newIndex(f files, name string, mediaType types.MediaType) (*ociIndex, error) {
	raw, err := read(f, name)
	if err != nil {
		return nil, err
	}
	m, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s is not an image index: %w", name, err)
	}
	return &ociIndex{files: f, raw: raw, mediaType: mediaType, manifest: m}, nil
}

// MediaType implements v1.ImageIndex.
func (i *ociIndex) MediaType() (types.MediaType, error) { return i.mediaType, nil }

// Digest implements v1.ImageIndex.
func (i *ociIndex) Digest() (v1.Hash, error) { return partial.Digest(i) }

// Size implements v1.ImageIndex.
func (i *ociIndex) Size() (int64, error) { return int64(len(i.raw)), nil }

// IndexManifest implements v1.ImageIndex.
func (i *ociIndex) IndexManifest() (*v1.IndexManifest, error) { return i.manifest, nil }

// RawManifest implements v1.ImageIndex.
func (i *ociIndex) RawManifest() ([]byte, error) { return i.raw, nil }

// Image implements v1.ImageIndex.
func (i *ociIndex) Image(h v1.Hash) (v1.Image, error) {
	d, err := i.find(h)
	if err != nil {
		return nil, err
	}
	return newImage(i.files, d)
}

// ImageIndex implements v1.ImageIndex.
func (i *ociIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	d, err := i.find(h)
	if err != nil {
		return nil, err
	}
	return newIndex(i.files, blobName(d.Digest), d.MediaType)
}

func (i *ociIndex) find(h v1.Hash) (v1.Descriptor, error) {
	at := slices.IndexFunc(i.manifest.Manifests, func(d v1.Descriptor) bool { return d.Digest == h })
	if at < 0 {
		return v1.Descriptor{}, fmt.Errorf("the index names no manifest %s", h)
	}
	return i.manifest.Manifests[at], nil
}

// ociImage is an image in an OCI layout, as partial.CompressedToImage takes it.
type ociImage struct {
	files    files
	raw      []byte
	desc     v1.Descriptor
	manifest *v1.Manifest
}

func newImage(f files, d v1.Descriptor) (v1.Image, error) {
	raw, err := read(f, blobName(d.Digest))
	if err != nil {
		return nil, err
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s is not an image's manifest: %w", blobName(d.Digest), err)
	}
	return partial.CompressedToImage(&ociImage{files: f, raw: raw, desc: d, manifest: m})
}

// MediaType implements partial.CompressedImageCore.
func (i *ociImage) MediaType() (types.MediaType, error) { return i.desc.MediaType, nil }

// RawManifest implements partial.CompressedImageCore.
func (i *ociImage) RawManifest() ([]byte, error) { return i.raw, nil }

// RawConfigFile implements partial.CompressedImageCore.
func (i *ociImage) RawConfigFile() ([]byte, error) {
	return read(i.files, blobName(i.manifest.Config.Digest))
}

// LayerByDigest implements partial.CompressedImageCore.
func (i *ociImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range append([]v1.Descriptor{i.manifest.Config}, i.manifest.Layers...) {
		if d.Digest == h {
			return &ociLayer{files: i.files, desc: d}, nil
		}
	}
	return nil, fmt.Errorf("the manifest names no layer %s", h)
}

// ociLayer is a blob in an OCI layout.
type ociLayer struct {
	files files
	desc  v1.Descriptor
}

// Digest implements partial.CompressedLayer.
func (l *ociLayer) Digest() (v1.Hash, error) { return l.desc.Digest, nil }

// Size implements partial.CompressedLayer.
func (l *ociLayer) Size() (int64, error) { return l.desc.Size, nil }

// MediaType implements partial.CompressedLayer.
func (l *ociLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }

// Compressed implements partial.CompressedLayer.
func (l *ociLayer) Compressed() (io.ReadCloser, error) { return l.files.open(blobName(l.desc.Digest)) }

// Descriptor tells the library what the manifest says of the blob.
func (l *ociLayer) Descriptor() (*v1.Descriptor, error) { return &l.desc, nil }

// layoutVersion checks the file that makes a directory an OCI layout.
func layoutVersion(f files) error {
	raw, err := read(f, "oci-layout")
	if err != nil {
		return err
	}
	var l struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		return fmt.Errorf("its oci-layout is not JSON: %w", err)
	}
	if l.Version != "1.0.0" {
		return fmt.Errorf("its image layout has version %q, want 1.0.0", l.Version)
	}
	return nil
}
