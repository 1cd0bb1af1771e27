package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Import makes an image of one layer of a tar, compressed or not, as docker import, and reports the image's ID.
func (i *Images) Import(ctx context.Context, r brig.ImportRequest, tar io.Reader, progress func(brig.Progress)) (err error) {
	ctx, cancel := i.joinContext(ctx)
	defer cancel()
	rep := newReporter(progress)
	defer rep.close()
	var refs []string
	if r.Repository != "" {
		named, err := tagRef(r.Repository, r.Tag)
		if err != nil {
			return err
		}
		refs = []string{named.String()}
	}
	f, err := os.CreateTemp(i.Spool, "import-*")
	if err != nil {
		return errs.Wrap(err, "spool the import")
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := io.Copy(f, ctxReader{ctx, tar}); err != nil {
		return errs.Wrap(err, "spool the import")
	}
	open := func() (io.ReadCloser, error) { return os.Open(f.Name()) }
	diff, err := i.plainDigest(ctx, open)
	if err != nil {
		return err
	}
	config, err := importConfig(i.Host, r, diff, time.Now().UTC())
	if err != nil {
		return err
	}
	a := brig.ArchiveImage{Config: config, Refs: refs, Layers: []brig.ArchiveLayer{{Diff: diff, Open: open}}}
	l := i.lease()
	defer l.release(ctx)
	quiet := newReporter(func(brig.Progress) {}) // the layer's bars are load's, not import's
	defer quiet.close()
	img, err := i.take(ctx, l, &a, refs, quiet)
	if err != nil {
		return err
	}
	if _, err := i.commit(ctx, img, refs); err != nil {
		return err
	}
	i.event("import", img, string(img.ID), string(img.ID))
	rep.add(brig.Progress{Status: string(img.ID)})
	return nil
}

// plainDigest is the digest of what open gives, uncompressed.
func (i *Images) plainDigest(ctx context.Context, open func() (io.ReadCloser, error)) (brig.Digest, error) {
	d, _, err := measure(ctx, func() (io.ReadCloser, error) {
		f, err := open()
		if err != nil {
			return nil, err
		}
		plain, err := i.Archives.Decompress(ctx, f, "")
		if err != nil {
			f.Close()
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{plain, closers{plain, f}}, nil
	})
	return d, errs.Wrap(err, "read the archive to import")
}

// closers are closed in order.
type closers []io.Closer

// Close implements io.Closer.
func (c closers) Close() error {
	var all error
	for _, x := range c {
		all = errors.Join(all, x.Close())
	}
	return all
}

// importConfig makes the config of an image that has one layer (OCI image specification, config.md).
func importConfig(host brig.Platform, r brig.ImportRequest, diff brig.Digest, now time.Time) ([]byte, error) {
	p := host
	if r.Platform != "" {
		if p = brig.ParsePlatform(r.Platform); p.Architecture == "" {
			p.Architecture = host.Architecture
		}
	}
	comment := r.Message
	if comment == "" {
		comment = "Imported from -"
	}
	created := now.Format(time.RFC3339Nano)
	doc := map[string]any{
		"architecture": p.Architecture, "os": p.OS, "created": created, "comment": comment, "config": map[string]any{},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []brig.Digest{diff}},
		"history": []any{map[string]any{"created": created, "comment": comment}},
	}
	if p.Variant != "" {
		doc["variant"] = p.Variant
	}
	b, err := json.Marshal(doc)
	return b, errs.Wrap(err, "make the image's config")
}
