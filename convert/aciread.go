package convert

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/podspec"
)

// Bounds on what an ACI may hold.
const (
	maxACIEntries = 4 << 20   // files
	maxACIBytes   = 256 << 30 // of the uncompressed archive; also of archives of images
)

// ReadACI reads an ACI (appc spec, aci.md), compressed in any way that Decompress knows, to its end. The manifest may stand anywhere in
// it, since docker2aci puts it last. The root file system goes to a nameless file in the directory spool, which Close gives back.
// Invalid: it is no ACI, with the reason. What the manifest doesn't say is not judged: the extractor does that.
func (c *Converter) ReadACI(ctx context.Context, r io.Reader, spool string) (_ *brig.ACIArchive, err error) {
	plain, err := c.Decompress(ctx, contextReader{ctx, r}, "")
	if err != nil {
		return nil, errs.Wrap(err, "read ACI")
	}
	defer plain.Close()
	layer, err := newSpoolTar(spool)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, layer.close())
		}
	}()
	id := sha512.New()
	all := io.TeeReader(c.capped(plain), id)
	s := &aciSplit{in: tar.NewReader(all), out: layer}
	if err := s.run(); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, all); err != nil { // padding after the archive's end belongs to what the ID is of
		return nil, errs.Wrap(err, "read ACI")
	}
	a := &brig.ACIArchive{ID: "sha512-" + hex.EncodeToString(id.Sum(nil)), Manifest: s.manifest, Close: layer.close}
	info, err := c.ACIInfo(s.manifest)
	if err != nil {
		return nil, err
	}
	a.ACIInfo = *info
	a.Layer, err = layer.finish()
	return a, err
}

// ACIInfo reads an appc image manifest. Invalid: it is none, or one of a version that is not known here.
func (c *Converter) ACIInfo(manifest []byte) (*brig.ACIInfo, error) {
	im, err := parseACIManifest(manifest)
	if err != nil {
		return nil, err
	}
	info := &brig.ACIInfo{Name: im.Name.String(), Labels: labelMap(im.Labels)}
	for _, d := range im.Dependencies {
		dep := brig.ACIDependency{Name: d.ImageName.String(), Labels: labelMap(d.Labels)}
		if d.ImageID != nil && !d.ImageID.Empty() {
			dep.ID = d.ImageID.String()
		}
		info.Dependencies = append(info.Dependencies, dep)
	}
	return info, nil
}

func labelMap(labels types.Labels) map[string]string {
	out := map[string]string{}
	for _, l := range labels {
		out[l.Name.String()] = l.Value
	}
	return out
}

// parseACIManifest reads and checks an image manifest by the specification's schema; isolators that nobody knows are left out.
func parseACIManifest(manifest []byte) (*schema.ImageManifest, error) {
	im, _, err := podspec.ParseImage(manifest)
	return im, errs.Wrap(err, "invalid ACI: its manifest is not valid")
}

// An aciSplit takes an ACI apart into its manifest and the tar of its root file system.
type aciSplit struct {
	in       *tar.Reader
	out      *spooledTar
	manifest []byte
	rootfs   bool // something of it was there
}

func (s *aciSplit) run() error {
	for n := 0; ; n++ {
		h, err := s.in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return badArchive(err)
		}
		if n == maxACIEntries {
			return errs.New(errs.Invalid, "invalid ACI: more than %d entries", maxACIEntries)
		}
		if err := s.entry(h); err != nil {
			return err
		}
	}
	switch {
	case s.manifest == nil:
		return errs.New(errs.Invalid, "invalid ACI: it has no manifest")
	case !s.rootfs:
		return errs.New(errs.Invalid, "invalid ACI: it has no rootfs")
	}
	return nil
}

// badArchive makes faults of the archive Invalid, and keeps the kind that an error has.
func badArchive(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.New(errs.Invalid, "invalid ACI: read archive: %w", err)
	}
	return errs.Wrap(err, "read ACI")
}

// entry sorts one entry to where it belongs.
func (s *aciSplit) entry(h *tar.Header) error {
	name, err := inside(h.Name)
	if err != nil {
		return err
	}
	switch {
	case h.Typeflag == tar.TypeXGlobalHeader || name == "." && h.Typeflag == tar.TypeDir:
		return nil
	case name == "manifest":
		return s.readManifest(h)
	case name == "rootfs":
		if h.Typeflag != tar.TypeDir {
			return errs.New(errs.Invalid, "invalid ACI: rootfs is not a directory")
		}
		name = "."
	default:
		var ok bool
		if name, ok = strings.CutPrefix(name, "rootfs/"); !ok {
			return errs.New(errs.Invalid, "invalid ACI: the entry %q is neither the manifest nor in rootfs/", h.Name)
		}
	}
	if strings.HasPrefix(path.Base(name), ".wh.") {
		return errs.New(errs.Invalid, "invalid ACI: the file name %q means a removal in a layer, so it can't be kept", h.Name)
	}
	s.rootfs = true
	out, err := stripped(h, name)
	if err != nil {
		return err
	}
	return s.out.add(out, s.in)
}

// inside cleans an entry's name; one that is absolute or climbs is refused.
func inside(name string) (string, error) {
	bad := path.IsAbs(name) || name == ""
	for _, c := range strings.Split(name, "/") {
		bad = bad || c == ".."
	}
	if bad {
		return "", errs.New(errs.Invalid, "invalid ACI: the entry name %q leads outside", name)
	}
	return path.Clean(name), nil
}

// stripped is an entry's header as a layer has it: named from the root, in the one format that can hold everything.
func stripped(h *tar.Header, name string) (*tar.Header, error) {
	out := *h
	out.Name, out.Format = name, tar.FormatPAX
	switch h.Typeflag {
	case tar.TypeDir:
		out.Name += "/"
	case tar.TypeLink:
		target, err := inside(h.Linkname)
		if err != nil {
			return nil, err
		}
		var ok bool
		if out.Linkname, ok = strings.CutPrefix(target, "rootfs/"); !ok {
			return nil, errs.New(errs.Invalid, "invalid ACI: the hard link %q leads to %q, outside rootfs/", h.Name, h.Linkname)
		}
	case tar.TypeGNUSparse:
		out.Typeflag = tar.TypeReg
	}
	return &out, nil
}

func (s *aciSplit) readManifest(h *tar.Header) (err error) {
	switch {
	case h.Typeflag != tar.TypeReg:
		return errs.New(errs.Invalid, "invalid ACI: its manifest is not a regular file")
	case s.manifest != nil:
		return errs.New(errs.Invalid, "invalid ACI: it has two manifests")
	case h.Size > maxDocument:
		return errs.New(errs.Invalid, "invalid ACI: its manifest has %d bytes, more than %d", h.Size, maxDocument)
	}
	s.manifest = []byte{}
	b, err := io.ReadAll(s.in)
	if err != nil {
		return badArchive(err)
	}
	s.manifest = append(s.manifest, b...)
	return nil
}

// capped fails with Invalid when more than left bytes come.
type capped struct {
	r           io.Reader
	left, limit int64
}

// capped bounds an archive's uncompressed size, whatever it was compressed to.
func (c *Converter) capped(r io.Reader) io.Reader {
	limit := cmp.Or(c.maxBytes, maxACIBytes)
	return &capped{r, limit, limit}
}

// Read implements io.Reader.
func (c *capped) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, errs.New(errs.Invalid, "the archive is larger than %d bytes", c.limit)
	}
	return n, err
}

// A spooledTar is a tar in a nameless file, with its digest.
type spooledTar struct {
	file *os.File
	tw   *tar.Writer
	sum  interface{ Sum([]byte) []byte }
}

func newSpoolTar(spool string) (*spooledTar, error) {
	f, err := os.CreateTemp(spool, "aci-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	h := sha256.New()
	return &spooledTar{file: f, tw: tar.NewWriter(io.MultiWriter(f, h)), sum: h}, nil
}

func (s *spooledTar) close() error { return s.file.Close() }

// add writes one entry, whose bytes come from r.
func (s *spooledTar) add(h *tar.Header, r io.Reader) error {
	if err := s.tw.WriteHeader(h); err != nil {
		if errors.Is(err, tar.ErrWriteTooLong) || isHeaderError(err) {
			return errs.New(errs.Invalid, "invalid ACI: entry %q: %w", h.Name, err)
		}
		return errs.Wrap(err, "spool entry %q", h.Name)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if _, err := io.Copy(s.tw, r); err != nil {
		return badArchive(err)
	}
	return nil
}

// isHeaderError reports whether archive/tar refused a header; it gives a text alone.
func isHeaderError(err error) bool {
	return strings.HasPrefix(err.Error(), "archive/tar: cannot encode header")
}

// finish ends the tar. The layer can be opened until close.
func (s *spooledTar) finish() (brig.ArchiveLayer, error) {
	if err := s.tw.Close(); err != nil {
		return brig.ArchiveLayer{}, err
	}
	st, err := s.file.Stat()
	if err != nil {
		return brig.ArchiveLayer{}, err
	}
	d := brig.Digest("sha256:" + hex.EncodeToString(s.sum.Sum(nil)))
	open := func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(s.file, 0, st.Size())), nil }
	return brig.ArchiveLayer{Blob: brig.Descriptor{MediaType: typeOCILayer, Digest: d, Size: st.Size()}, Diff: d, Open: open}, nil
}
