package images

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ErrNoImage says that a file holds no image in a form that is known.
var ErrNoImage = errors.New("it is neither an OCI image layout (a directory or a tar archive) nor a docker-archive (`docker save`)")

// refName is the annotation with which a layout names what it holds.
const refName = "org.opencontainers.image.ref.name"

// open finds the image in a file that is to be pushed as ref: a v1.Image or a
// v1.ImageIndex. done releases it.
func open(file string, ref name.Tag) (image remote.Taggable, done func(), err error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", file, err)
		}
	}()
	if info.IsDir() {
		image, err = fromLayout(directory(file), ref)
		return image, func() {}, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, ErrNoImage
	}
	a, done, err := openArchive(file)
	if errors.Is(err, errNotTar) {
		return nil, nil, ErrNoImage
	}
	if err != nil {
		return nil, nil, err
	}
	// An archive may be both; as a layout its digests are as they were built.
	if a.exists("oci-layout") || !a.exists("manifest.json") {
		image, err = fromLayout(a, ref)
	} else {
		image, err = fromDocker(a, ref)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return image, done, nil
}

// fromLayout finds the image of an OCI layout: the one there is; of several the
// one that is named as ref is; or, if they are one image for several platforms,
// all of them.
func fromLayout(f files, ref name.Tag) (remote.Taggable, error) {
	if !f.exists("oci-layout") || !f.exists("index.json") {
		return nil, ErrNoImage
	}
	if err := layoutVersion(f); err != nil {
		return nil, err
	}
	top, err := newIndex(f, "index.json", types.OCIImageIndex)
	if err != nil {
		return nil, err
	}
	held := top.manifest.Manifests
	if len(held) > 1 {
		named := slices.DeleteFunc(slices.Clone(held), func(d v1.Descriptor) bool { return !names(d.Annotations[refName], ref) })
		switch {
		case len(named) == 1:
			held = named
		case platforms(held):
			return present(top)
		default:
			var have []string
			for _, d := range held {
				have = append(have, d.Annotations[refName])
			}
			return nil, severalError(have, ref)
		}
	}
	if len(held) == 0 {
		return nil, errors.New("its index names no image")
	}
	switch d := held[0]; {
	case d.MediaType.IsIndex():
		index, err := newIndex(f, blobName(d.Digest), d.MediaType)
		if err != nil {
			return nil, err
		}
		return present(index)
	case d.MediaType.IsImage():
		return newImage(f, d)
	default:
		return nil, fmt.Errorf("it holds a %s, which is no image", d.MediaType)
	}
}

// names says whether a name in a file, a tag alone or a whole reference, is what
// ref is.
func names(have string, ref name.Tag) bool {
	if have == ref.TagStr() {
		return true
	}
	return have == ref.RepositoryStr()+":"+ref.TagStr() || strings.HasSuffix(have, "/"+ref.RepositoryStr()+":"+ref.TagStr())
}

// platforms says whether the manifests are each for another platform.
func platforms(all []v1.Descriptor) bool {
	seen := map[string]bool{}
	for _, d := range all {
		if d.Platform == nil || seen[d.Platform.String()] {
			return false
		}
		seen[d.Platform.String()] = true
	}
	return true
}

func severalError(have []string, ref name.Tag) error {
	for i, h := range have {
		if h == "" {
			have[i] = "(no name)"
		}
	}
	return fmt.Errorf("it holds %d images, %s, and none of them is named %s:%s: save one image to a file",
		len(have), strings.Join(have, ", "), ref.RepositoryStr(), ref.TagStr())
}

// present is the index with what the file has of it: an image may be saved for
// one platform of several, with the index for all.
func present(index *ociIndex) (remote.Taggable, error) {
	missing := map[v1.Hash]bool{}
	for _, d := range index.manifest.Manifests {
		if !index.files.exists(blobName(d.Digest)) {
			missing[d.Digest] = true
		}
	}
	switch len(missing) {
	case 0:
		return index, nil
	case len(index.manifest.Manifests):
		return nil, errors.New("its index names images, but it holds none of them")
	}
	return mutate.RemoveManifests(index, func(d v1.Descriptor) bool { return missing[d.Digest] }), nil
}

// fromDocker finds the image of a docker-archive: the one there is, or of
// several the one with the tag ref.
func fromDocker(a *archive, ref name.Tag) (remote.Taggable, error) {
	opener := func() (io.ReadCloser, error) { return os.Open(a.path) }
	held, err := tarball.LoadManifest(opener)
	if err != nil {
		return nil, fmt.Errorf("its manifest.json is not a docker-archive's: %w", err)
	}
	if len(held) == 0 {
		return nil, errors.New("its manifest.json names no image")
	}
	if len(held) == 1 {
		return tarball.Image(opener, nil)
	}
	var have []string
	for _, d := range held {
		for _, tag := range d.RepoTags {
			have = append(have, tag)
			if !names(tag, ref) {
				continue
			}
			t, err := name.NewTag(tag)
			if err != nil {
				return nil, fmt.Errorf("its manifest.json: %w", err)
			}
			return tarball.Image(opener, &t)
		}
	}
	return nil, severalError(have, ref)
}
