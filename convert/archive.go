package convert

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"path"
	"runtime"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/jsondoc"
)

// Bounds on what an archive may hold; sizes in bytes.
const (
	maxEntries  = 200_000
	maxDocument = 8 << 20
	maxImages   = 10_000
	maxLinks    = 16 // symlinks followed for one name
)

// ReadArchive reads a docker-archive (docker save of every age since 1.10, skopeo, podman) or an OCI layout as a tar, which may be
// compressed. It spools all of it to a folder in the directory spool, which close removes; that ends the use of the layers. On error
// nothing stays in spool.
// Of an image that is there for several platforms it takes the first of want (none: those that this host runs) that there is, else any.
// Whatever has a digest in the archive is verified, but the layers' uncompressed bytes. Invalid: it is no such archive.
func (c *Converter) ReadArchive(ctx context.Context, r io.Reader, spool string, want ...brig.Platform) (images []brig.ArchiveImage, close func() error, err error) {
	plain, err := c.Decompress(ctx, r, "")
	if err != nil {
		return nil, nil, err
	}
	defer plain.Close()
	a, err := spoolTar(ctx, c.capped(plain), spool)
	if err != nil {
		return nil, nil, err
	}
	if a.want = want; len(want) == 0 {
		a.want = brig.DefaultPlatforms(runtime.GOOS, runtime.GOARCH)
	}
	images, err = a.images()
	if err != nil {
		return nil, nil, errors.Join(err, a.close())
	}
	return images, a.close, nil
}

// isSparse reports whether an entry's bytes are not simply its content. GNU's old form is a type of its own.
func isSparse(h *tar.Header) bool {
	_, major := h.PAXRecords["GNU.sparse.major"]
	_, m := h.PAXRecords["GNU.sparse.map"]
	return major || m
}

// cleanName makes a name relative and keeps it inside.
func cleanName(s string) string { return strings.TrimPrefix(path.Clean("/"+s), "/") }

// document reads a small file whole; a name beneath blobs/sha256/ must be the digest of what it holds.
func (a *archive) document(name string) ([]byte, error) {
	e, err := a.find(name)
	if err != nil {
		return nil, err
	}
	if e.size > maxDocument {
		return nil, errs.New(errs.Invalid, "invalid archive: %s is larger than %d bytes", name, maxDocument)
	}
	if d := blobDigest(name); d != "" && e.digest != d {
		return nil, errs.New(errs.Invalid, "invalid archive: %s has the digest %s", name, e.digest)
	}
	r, err := a.open(e)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return b, errs.Wrap(err, "read archive: %s", name)
}

// decode reads a JSON file into v.
func (a *archive) decode(name string, v any) error {
	b, err := a.document(name)
	if err != nil {
		return err
	}
	return errs.Wrap(jsondoc.Unmarshal(b, v), "invalid archive: %s", name)
}

// blobDigest is the digest that a path of an OCI layout promises; "" for other paths.
func blobDigest(name string) brig.Digest {
	hex, ok := strings.CutPrefix(cleanName(name), "blobs/sha256/")
	if !ok {
		return ""
	}
	d, err := brig.ParseDigest("sha256:" + hex)
	if err != nil {
		return ""
	}
	return d
}

func blobPath(d brig.Digest) string { return "blobs/sha256/" + d.Hex() }

// layer describes the layer at a path. d may be zero; what it says must be so.
func (a *archive) layer(name string, d brig.Descriptor, diff brig.Digest) (brig.ArchiveLayer, error) {
	e, err := a.find(name)
	if err != nil {
		return brig.ArchiveLayer{}, err
	}
	if d.Size != 0 && d.Size != e.size {
		return brig.ArchiveLayer{}, errs.New(errs.Invalid, "invalid archive: %s has %d bytes, its manifest says %d", name, e.size, d.Size)
	}
	for _, want := range []brig.Digest{d.Digest, blobDigest(name)} {
		if want != "" && want != e.digest {
			return brig.ArchiveLayer{}, errs.New(errs.Invalid, "invalid archive: %s has the digest %s", name, e.digest)
		}
	}
	d.Digest, d.Size = e.digest, e.size
	return brig.ArchiveLayer{Blob: d, Diff: diff, File: e.file, Open: func() (io.ReadCloser, error) { return a.open(e) }}, nil
}

// contextReader stops between reads when ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
