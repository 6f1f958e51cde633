package images

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// files is read access to what an image's file holds, by cleaned slash-separated
// names. An error for a name that is not there is fs.ErrNotExist.
type files interface {
	open(name string) (io.ReadCloser, error)
	exists(name string) bool
}

// maxDocument bounds manifests, indexes and configurations, in bytes.
const maxDocument = 16 << 20

// read reads a small file whole.
func read(f files, name string) ([]byte, error) {
	r, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(b) > maxDocument {
		err = errors.New("it is larger than a document may be")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// directory is files of a directory.
type directory string

func (d directory) open(name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(d), filepath.FromSlash(path.Clean("/"+name))))
}

func (d directory) exists(name string) bool {
	r, err := d.open(name)
	if err != nil {
		return false
	}
	r.Close()
	return true
}

// archive is files of a tar file, read in place.
type archive struct {
	// path is the tar file itself, not compressed.
	path  string
	where map[string]extent
}

// extent is a file's place in the archive, in bytes.
type extent struct{ offset, size int64 }

func (a *archive) open(name string) (io.ReadCloser, error) {
	e, ok := a.where[path.Clean(name)]
	if !ok {
		return nil, fmt.Errorf("the archive has no %s: %w", name, fs.ErrNotExist)
	}
	f, err := os.Open(a.path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, e.offset, e.size), f}, nil
}

func (a *archive) exists(name string) bool {
	_, ok := a.where[path.Clean(name)]
	return ok
}

// errNotTar says that a file is no tar archive.
var errNotTar = errors.New("it is not a tar archive")

// openArchive lists a tar file's files. What is behind gzip is first unpacked to
// a temporary file; done removes it.
func openArchive(file string) (a *archive, done func(), err error) {
	done = func() {}
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	head, err := bufio.NewReader(f).Peek(2)
	if err != nil || head[0] != 0x1f || head[1] != 0x8b {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, nil, err
		}
		a, err := list(f)
		return a, done, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, nil, err
	}
	plain, err := os.CreateTemp("", "plim-image-*.tar")
	if err != nil {
		return nil, nil, err
	}
	defer plain.Close()
	done = func() { os.Remove(plain.Name()) }
	if a, err = unpack(f, plain); err != nil {
		done()
		return nil, nil, err
	}
	return a, done, nil
}

// unpack uncompresses f into plain and lists that.
func unpack(f io.Reader, plain *os.File) (*archive, error) {
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("uncompress it: %w", err)
	}
	if _, err := io.Copy(plain, z); err != nil {
		return nil, fmt.Errorf("uncompress it: %w", err)
	}
	if _, err := plain.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return list(plain)
}

// list finds the files in a tar archive. Links are followed to what stands
// before them, as docker writes them for layers that occur twice.
func list(f *os.File) (*archive, error) {
	a := &archive{path: f.Name(), where: map[string]extent{}}
	links := map[string]string{}
	t := tar.NewReader(f)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && len(a.where)+len(links) == 0 {
			return nil, errNotTar
		}
		if err != nil {
			return nil, fmt.Errorf("read the archive: %w", err)
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			offset, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			a.where[name] = extent{offset: offset, size: h.Size}
		case tar.TypeSymlink:
			links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			links[name] = path.Clean(h.Linkname)
		}
	}
	for name, target := range links {
		if e, ok := a.where[target]; ok {
			a.where[name] = e
		}
	}
	return a, nil
}
