package runtime

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/changes"
	"github.com/brigd/brig/internal/errs"
)

// Import makes an image of one layer of a tar, compressed or not, as docker import, and reports the image's ID. With a Source the tar
// is what that URL gives, and tar is nil.
func (i *Images) Import(ctx context.Context, r brig.ImportRequest, tar io.Reader, progress func(brig.Progress)) error {
	ctx, cancel := i.joinContext(ctx)
	defer cancel()
	rep := newReporter(progress)
	defer rep.close()
	var named reference.Named
	var refs []string
	if r.Repository != "" {
		var err error
		if named, err = tagRef(r.Repository, r.Tag); err != nil {
			return err
		}
		refs = []string{named.String()}
	}
	config, err := changes.Apply(brig.ImageConfig{}, r.Changes)
	if err != nil {
		return err
	}
	if r.Source != "" {
		body, err := i.fetchImport(ctx, r.Source, rep)
		if err != nil {
			return err
		}
		defer body.Close()
		tar = body
	}
	l := i.lease()
	defer l.release(ctx)
	img, err := i.importImage(ctx, l, r, firstRef(refs), &config, tar)
	if err != nil {
		return err
	}
	if _, err := i.commit(ctx, img, refs); err != nil {
		return err
	}
	if named != nil {
		i.event("tag", img, string(img.ID), reference.FamiliarString(named))
	}
	i.event("import", img, string(img.ID), string(img.ID))
	rep.add(brig.Progress{Status: string(img.ID)})
	return nil
}

// importImage brings the tar into the store, held by l, and makes the image's record. ref is the qualified name that the image shall
// have, "" if none.
func (i *Images) importImage(ctx context.Context, l *lease, r brig.ImportRequest, ref string, config *brig.ImageConfig, tar io.Reader) (*brig.Image, error) {
	blob, err := i.Blobs.Put(ctx, tar, "", -1)
	if err != nil {
		return nil, errs.Wrap(err, "receive the archive to import")
	}
	l.blob(blob.Digest)
	diff, err := i.plainDigest(ctx, func() (io.ReadCloser, error) {
		f, _, err := i.Blobs.Open(blob.Digest)
		return f, err
	})
	if err != nil {
		return nil, err
	}
	layers, err := i.bringAll(ctx, l, []want{i.present(brig.Layer{Diff: diff, Chain: brig.ChainID("", diff), Blob: blob})})
	if err != nil {
		return nil, err
	}
	doc, err := importDoc(i.Host, r, config, diff, time.Now())
	if err != nil {
		return nil, err
	}
	doc.DockerVersion = i.Version
	return i.describeDoc(ctx, l, doc, layers, ref)
}

// fetchImport opens what source, a URL, gives, and reports how it comes. The caller closes it.
func (i *Images) fetchImport(ctx context.Context, source string, rep *reporter) (io.ReadCloser, error) {
	body, size, err := i.Downloads.Download(ctx, source)
	if err != nil {
		return nil, err
	}
	rep.add(brig.Progress{Status: "Downloading from " + source})
	if size <= 0 { // the server doesn't say how much will come
		return body, nil
	}
	m := &meter{tell: func(status string, current, total int64) {
		rep.add(brig.Progress{Status: status, Current: current, Total: total})
	}, status: "Importing", size: size}
	return struct {
		io.Reader
		io.Closer
	}{meterReader{body, m}, body}, nil
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

// importDoc makes the config of an image that has one layer.
func importDoc(host brig.Platform, r brig.ImportRequest, c *brig.ImageConfig, diff brig.Digest, now time.Time) (*imageDoc, error) {
	p := host
	if r.Platform != "" {
		if p = brig.ParsePlatform(r.Platform); p.Architecture == "" {
			p.Architecture = host.Architecture
		}
	}
	comment := cmp.Or(r.Message, "Imported from "+cmp.Or(r.Source, "-"))
	d := newImageDoc(p, c, now)
	d.Comment = comment
	return d, d.add(historyDoc{Comment: comment}, diff)
}
