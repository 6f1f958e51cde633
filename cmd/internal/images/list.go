package images

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"
)

// List is all images in the registry that have a tag, in the order of their
// repositories and first tags; what is deleted meanwhile may be missing.
func (r *Registry) List(ctx context.Context) ([]Image, error) {
	host, err := name.NewRegistry(Host)
	if err != nil {
		return nil, err
	}
	repositories, err := remote.Catalog(ctx, host, r.options(ctx)...)
	if err != nil {
		return nil, r.errorf(err, "list the images")
	}
	var mu sync.Mutex
	var all []Image
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for _, repository := range repositories {
		g.Go(func() error {
			images, err := r.listRepository(ctx, host.Repo(repository))
			if err != nil {
				return r.errorf(err, "list the images of %s", repository)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, images...)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Image) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tags[0], b.Tags[0]))
	})
	return all, nil
}

// listRepository is one repository's images, each with its tags.
func (r *Registry) listRepository(ctx context.Context, repository name.Repository) ([]Image, error) {
	options := r.options(ctx)
	tags, err := remote.List(repository, options...)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(tags)
	byDigest := map[string]*Image{}
	for _, tag := range tags {
		d, err := remote.Get(repository.Tag(tag), options...)
		if absent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if i := byDigest[d.Digest.String()]; i != nil {
			i.Tags = append(i.Tags, tag)
			continue
		}
		i := &Image{Repository: repository.RepositoryStr(), Tags: []string{tag}, Digest: d.Digest.String()}
		if i.Size, err = remoteSize(d); err != nil {
			return nil, err
		}
		byDigest[i.Digest] = i
	}
	images := make([]Image, 0, len(byDigest))
	for _, i := range byDigest {
		images = append(images, *i)
	}
	return images, nil
}

func remoteSize(d *remote.Descriptor) (int64, error) {
	switch {
	case d.MediaType.IsIndex():
		index, err := d.ImageIndex()
		if err != nil {
			return 0, err
		}
		return size(index)
	case d.MediaType.IsImage():
		image, err := d.Image()
		if err != nil {
			return 0, err
		}
		return size(image)
	}
	return d.Size, nil
}

// absent says whether the registry has no such thing.
func absent(err error) bool {
	var t *transport.Error
	return errors.As(err, &t) && t.StatusCode == http.StatusNotFound
}
