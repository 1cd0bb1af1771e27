package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Load takes in all images of a docker-archive or OCI layout, as docker load, and reports as dockerd does. Images before one that fails stay.
// platform "" takes all images; else those for another one are left out. NotFound: none is left.
func (i *Images) Load(ctx context.Context, tar io.Reader, platform string, progress func(brig.Progress)) error {
	ctx, cancel := i.joinContext(ctx)
	defer cancel()
	rep := newReporter(progress)
	defer rep.close()
	images, closeArchive, err := i.Archives.ReadArchive(ctx, tar, i.Spool, i.wantsOf(platform)...)
	if err != nil {
		return err
	}
	defer func() {
		if err := closeArchive(); err != nil {
			i.log.Warn("a loaded archive's temporary files stay until the next start", "error", err)
		}
	}()
	if images, err = i.only(images, platform); err != nil {
		return err
	}
	for n := range images {
		if err := i.loadOne(ctx, &images[n], rep); err != nil {
			return err
		}
	}
	return nil
}

// wantsOf lists the platforms to take of an image that is there for several.
func (i *Images) wantsOf(platform string) []brig.Platform {
	if platform == "" {
		return i.Platforms
	}
	return []brig.Platform{brig.ParsePlatform(platform)}
}

// only leaves the images that are for platform, "" for any.
func (i *Images) only(images []brig.ArchiveImage, platform string) ([]brig.ArchiveImage, error) {
	if platform == "" {
		return images, nil
	}
	var out []brig.ArchiveImage
	var has []string
	for _, a := range images {
		doc, err := i.Converter.ImageConfig(a.Config)
		if err != nil {
			return nil, err
		}
		has = append(has, doc.Platform.String())
		if brig.ParsePlatform(platform).Suits(doc.Platform) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, errs.New(errs.NotFound, "requested platform (%s) not found: the archive has %s", platform, strings.Join(has, ", "))
	}
	return out, nil
}

func (i *Images) loadOne(ctx context.Context, a *brig.ArchiveImage, rep *reporter) error {
	var refs []string
	for _, r := range a.Refs {
		named, err := tagRef(r, "")
		if err != nil {
			return errs.Wrap(err, "invalid tag %q", r)
		}
		refs = append(refs, named.String())
	}
	l := i.lease()
	defer l.release(ctx)
	img, err := i.take(ctx, l, a, refs, rep)
	if err != nil {
		return err
	}
	moved, err := i.commit(ctx, img, refs)
	if err != nil {
		return err
	}
	i.event("load", img, string(img.ID), string(img.ID))
	for _, r := range refs {
		if old := moved[r]; old != "" {
			rep.add(brig.Progress{Stream: fmt.Sprintf("The image %s already exists, renaming the old one with ID %s to empty string\n", familiar(r), old)})
		}
		rep.add(brig.Progress{Stream: "Loaded image: " + familiar(r) + "\n"})
	}
	if len(refs) == 0 {
		rep.add(brig.Progress{Stream: "Loaded image ID: " + string(img.ID) + "\n"})
	}
	return nil
}

// take brings an archive's image into the store, held by l, and makes its record.
func (i *Images) take(ctx context.Context, l *lease, a *brig.ArchiveImage, refs []string, rep *reporter) (*brig.Image, error) {
	if img, err := i.whole(ctx, l, brig.DigestOf(a.Config)); img != nil || err != nil {
		return img, err
	}
	doc, err := i.Converter.ImageConfig(a.Config)
	if err != nil {
		return nil, err
	}
	if len(doc.Diffs) != len(a.Layers) {
		return nil, errs.New(errs.Invalid, "invalid manifest, layers length mismatch: expected %d, got %d", len(doc.Diffs), len(a.Layers))
	}
	wants := make([]want, len(doc.Diffs))
	for n, chain := range brig.ChainIDs(doc.Diffs) {
		if wants[n], err = i.wantFromArchive(ctx, l, &a.Layers[n], doc.Diffs[n], chain, rep); err != nil {
			return nil, err
		}
	}
	layers, err := i.bringAll(ctx, l, wants)
	if err != nil {
		return nil, err
	}
	return i.describe(ctx, l, doc, layers, a.Config, a.Manifest, firstRef(refs))
}

// wantFromArchive describes a layer of an archive. One that has a file becomes a blob, held by l, without a copy: then its flight finds it.
func (i *Images) wantFromArchive(ctx context.Context, l *lease, a *brig.ArchiveLayer, diff, chain brig.Digest, rep *reporter) (want, error) {
	d := a.Blob
	if d.Digest == "" || d.Size == 0 {
		var err error
		if d.Digest, d.Size, err = measure(ctx, a.Open); err != nil {
			return want{}, errs.Wrap(err, "read layer %s of the archive", diff)
		}
	}
	if a.File != "" {
		l.blob(d.Digest)
		if err := i.Blobs.Adopt(ctx, d.Digest, a.File); err != nil {
			return want{}, errs.Wrap(err, "store layer %s of the archive", diff)
		}
	}
	id := shortDigest(diff)
	return want{
		layer: brig.Layer{Diff: diff, Chain: chain, Blob: d},
		src: source{open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			return openAt(a.Open, offset)
		}, slots: i.loading},
		// Layers are applied side by side: this gives their bars the image's order.
		begin: func(there bool) {
			if !there {
				rep.add(brig.Progress{ID: id, Status: "Loading layer", Total: d.Size})
			}
		},
		tell: func(status string, current, total int64) {
			if status == "Extracting" {
				rep.add(brig.Progress{ID: id, Status: "Loading layer", Current: current, Total: total})
			}
		},
	}, nil
}

// measure returns the digest and the size in bytes of what open gives.
func measure(ctx context.Context, open func() (io.ReadCloser, error)) (brig.Digest, int64, error) {
	r, err := open()
	if err != nil {
		return "", 0, err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(h, ctxReader{ctx, r})
	if err != nil {
		return "", 0, err
	}
	return brig.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))), n, nil
}

// ctxReader stops reading when its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

func openAt(open func() (io.ReadCloser, error), offset int64) (io.ReadCloser, error) {
	r, err := open()
	if err != nil {
		return nil, errs.As(errs.Invalid, err)
	}
	if _, err := io.CopyN(io.Discard, r, offset); err != nil {
		r.Close()
		return nil, errs.As(errs.Invalid, err)
	}
	return r, nil
}
