package images

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Image is an image in the registry.
type Image struct {
	// Repository is the image's name without the registry.
	Repository string `json:"repository"`
	// Tags are in order.
	Tags []string `json:"tags"`
	// Digest is the manifest's, sha256:HEX.
	Digest string `json:"digest"`
	// Size is of the configuration and the layers, compressed, for all platforms;
	// in bytes.
	Size int64 `json:"size"`
}

// Push puts the image in the file, or in the directory, into the registry as
// NAME[:TAG]; what the registry has already is not sent. progress, if not nil,
// hears how many bytes of how many are there; it is called from one goroutine,
// and not after Push answers. The error is ErrNoImage if there is none in the
// file.
func (r *Registry) Push(ctx context.Context, file, dst string, progress func(done, total int64)) (Image, error) {
	ref, err := ParseName(dst)
	if err != nil {
		return Image{}, err
	}
	image, release, err := open(file, ref)
	if err != nil {
		return Image{}, err
	}
	defer release()
	options := r.options(ctx)
	heard := make(chan struct{})
	close(heard)
	if progress != nil {
		updates := make(chan v1.Update, 16)
		heard = make(chan struct{})
		go func() {
			defer close(heard)
			for u := range updates {
				if u.Error == nil {
					progress(u.Complete, u.Total)
				}
			}
		}()
		options = append(options, remote.WithProgress(updates))
	}
	switch i := image.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, i, options...)
	case v1.Image:
		err = remote.Write(ref, i, options...)
	default:
		err = fmt.Errorf("a %T is no image", image)
	}
	<-heard
	if err != nil {
		return Image{}, r.errorf(err, "push %s", dst)
	}
	pushed := Image{Repository: ref.RepositoryStr(), Tags: []string{ref.TagStr()}}
	digest, err := image.(interface{ Digest() (v1.Hash, error) }).Digest()
	if err != nil {
		return Image{}, err
	}
	pushed.Digest = digest.String()
	if pushed.Size, err = size(image); err != nil {
		return Image{}, err
	}
	return pushed, nil
}

// size is what the image's configurations and layers take, in bytes. A layer
// that several platforms share counts once.
func size(image remote.Taggable) (int64, error) {
	blobs := map[v1.Hash]int64{}
	if err := measure(image, blobs); err != nil {
		return 0, err
	}
	var n int64
	for _, size := range blobs {
		n += size
	}
	return n, nil
}

func measure(image remote.Taggable, blobs map[v1.Hash]int64) error {
	switch i := image.(type) {
	case v1.ImageIndex:
		m, err := i.IndexManifest()
		if err != nil {
			return err
		}
		for _, d := range m.Manifests {
			var child remote.Taggable
			switch {
			case d.MediaType.IsIndex():
				child, err = i.ImageIndex(d.Digest)
			case d.MediaType.IsImage():
				child, err = i.Image(d.Digest)
			default:
				blobs[d.Digest] = d.Size
				continue
			}
			if err != nil {
				return err
			}
			if err := measure(child, blobs); err != nil {
				return err
			}
		}
	case v1.Image:
		m, err := i.Manifest()
		if err != nil {
			return err
		}
		for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
			blobs[d.Digest] = d.Size
		}
	}
	return nil
}
