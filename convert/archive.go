package convert

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path"
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

// archive is a spooled tar and where its entries are. The bytes of an entry are a section of the file.
type archive struct {
	file    *os.File
	entries map[string]entry // by cleaned path without a leading slash
}

type entry struct {
	offset, size int64
	link         string // cleaned path that the entry stands for; "" if it is a file
}

// ReadArchive reads a docker-archive (docker save of every age since 1.10, skopeo, podman) or an OCI layout as a tar, which may be
// compressed. It spools all of it to one file in the directory spool, which is gone from there when ReadArchive returns; close
// gives its space back, and ends the use of the layers.
// Documents are verified where their digest is known; layers are verified by who reads them. Invalid: it is no such archive.
func (c *Converter) ReadArchive(ctx context.Context, r io.Reader, spool string) (images []brig.ArchiveImage, close func() error, err error) {
	plain, err := c.Decompress(ctx, r, "")
	if err != nil {
		return nil, nil, err
	}
	defer plain.Close()
	a, err := spoolTar(ctx, plain, spool)
	if err != nil {
		return nil, nil, err
	}
	images, err = a.images()
	if err != nil {
		return nil, nil, errors.Join(err, a.file.Close())
	}
	return images, a.file.Close, nil
}

// spoolTar copies a tar to a nameless file and indexes it.
func spoolTar(ctx context.Context, r io.Reader, spool string) (_ *archive, err error) {
	f, err := os.CreateTemp(spool, "archive-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	a := &archive{file: f, entries: map[string]entry{}}
	if _, err := io.Copy(f, contextReader{ctx, r}); err != nil {
		return nil, errs.Wrap(err, "read archive")
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return a, a.index(ctx)
}

// index notes each entry. archive/tar reads headers block by block and nothing ahead, so the file's position is where the bytes are.
func (a *archive) index(ctx context.Context) error {
	tr := tar.NewReader(a.file)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errs.New(errs.Invalid, "read archive: %w", err)
		}
		if n == maxEntries {
			return errs.New(errs.Invalid, "read archive: more than %d entries", maxEntries)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		offset, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		name := cleanName(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if isSparse(h) {
				return errs.New(errs.Invalid, "read archive: %s is a sparse entry, which archives of images don't have", h.Name)
			}
			a.entries[name] = entry{offset: offset, size: h.Size}
		case tar.TypeSymlink: // old archives have one layer.tar for several images
			a.entries[name] = entry{link: cleanName(path.Join(path.Dir("/"+name), h.Linkname))}
		case tar.TypeLink:
			a.entries[name] = entry{link: cleanName(h.Linkname)}
		}
	}
}

// isSparse reports whether an entry's bytes are not simply its content. GNU's old form is a type of its own.
func isSparse(h *tar.Header) bool {
	_, major := h.PAXRecords["GNU.sparse.major"]
	_, m := h.PAXRecords["GNU.sparse.map"]
	return major || m
}

// cleanName makes a name relative and keeps it inside.
func cleanName(s string) string { return strings.TrimPrefix(path.Clean("/"+s), "/") }

// section finds the bytes of a name, through links.
func (a *archive) section(name string) (*io.SectionReader, error) {
	at := cleanName(name)
	for range maxLinks {
		e, ok := a.entries[at]
		if !ok {
			return nil, errs.New(errs.Invalid, "invalid archive: it has no %s", name)
		}
		if e.link == "" {
			return io.NewSectionReader(a.file, e.offset, e.size), nil
		}
		at = e.link
	}
	return nil, errs.New(errs.Invalid, "invalid archive: %s is a loop of links", name)
}

// document reads a small file whole; a name beneath blobs/sha256/ must be the digest of what it holds.
func (a *archive) document(name string) ([]byte, error) {
	s, err := a.section(name)
	if err != nil {
		return nil, err
	}
	if s.Size() > maxDocument {
		return nil, errs.New(errs.Invalid, "invalid archive: %s is larger than %d bytes", name, maxDocument)
	}
	b, err := io.ReadAll(s)
	if err != nil {
		return nil, errs.New(errs.Invalid, "read archive: %s: %w", name, err)
	}
	if d := blobDigest(name); d != "" && brig.DigestOf(b) != d {
		return nil, errs.New(errs.Invalid, "invalid archive: %s has the digest %s", name, brig.DigestOf(b))
	}
	return b, nil
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

// layer describes the layer at a path. d may be zero.
func (a *archive) layer(name string, d brig.Descriptor, diff brig.Digest) (brig.ArchiveLayer, error) {
	s, err := a.section(name)
	if err != nil {
		return brig.ArchiveLayer{}, err
	}
	if d.Digest == "" {
		d.Digest = blobDigest(name)
	}
	if d.Size != 0 && d.Size != s.Size() {
		return brig.ArchiveLayer{}, errs.New(errs.Invalid, "invalid archive: %s has %d bytes, its manifest says %d", name, s.Size(), d.Size)
	}
	if d.Digest != "" {
		d.Size = s.Size()
	}
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(a.file, entryOffset(s), s.Size())), nil
	}
	return brig.ArchiveLayer{Blob: d, Diff: diff, Open: open}, nil
}

// entryOffset is where a section begins in its file.
func entryOffset(s *io.SectionReader) int64 {
	_, off, _ := s.Outer()
	return off
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
