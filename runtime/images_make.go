package runtime

import (
	"context"
	"io"
	"time"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// typeLayerPlain is Docker's media type of an uncompressed layer.
const typeLayerPlain = "application/vnd.docker.image.rootfs.diff.tar"

// storeTries bounds how often a layer is written anew because a removal took it away at the same instant.
const storeTries = 5

// MakeImage implements ImageMaker.
func (i *Images) MakeImage(ctx context.Context, n brig.NewImage, layer func(context.Context, io.Writer) error) (brig.Digest, string, error) {
	ctx, cancel := i.joinContext(ctx)
	defer cancel()
	var named reference.Named
	var refs []string
	if n.Repository != "" {
		var err error
		if named, err = tagRef(n.Repository, n.Tag); err != nil {
			return "", "", err
		}
		refs = []string{named.String()}
	}
	l := i.lease()
	defer l.release(ctx)
	img, err := i.makeImage(ctx, l, n, firstRef(refs), layer)
	if err != nil {
		return "", "", err
	}
	if _, err := i.commit(ctx, img, refs); err != nil {
		return "", "", err
	}
	if named == nil {
		return img.ID, "", nil
	}
	familiar := reference.FamiliarString(named)
	i.event("tag", img, string(img.ID), familiar)
	return img.ID, familiar, nil
}

// firstRef returns the first of refs, "" if there is none.
func firstRef(refs []string) string {
	if len(refs) == 0 {
		return ""
	}
	return refs[0]
}

// makeImage brings the layer into the store, held by l, and makes the image's record. ref is the qualified name that the image shall
// have, "" if none.
func (i *Images) makeImage(ctx context.Context, l *lease, n brig.NewImage, ref string, layer func(context.Context, io.Writer) error) (*brig.Image, error) {
	doc := newImageDoc(n.Platform, &n.Config, time.Now())
	doc.Author, doc.DockerVersion = n.Author, i.Version
	var layers []brig.Layer
	if n.Parent != "" {
		parent, lower, err := i.borrow(ctx, string(n.Parent))
		if err != nil {
			return nil, err
		}
		defer lower.release(ctx)
		config, err := i.Blobs.Get(parent.ID)
		if err != nil {
			return nil, errs.Wrap(err, "config of image %s", shortDigest(parent.ID))
		}
		if err := doc.inherit(config); err != nil {
			return nil, err
		}
		layers = parent.Layers
	}
	wants := make([]want, 0, len(layers)+1)
	for _, x := range layers {
		wants = append(wants, i.present(x))
	}
	var diff brig.Digest
	if layer != nil {
		blob, err := i.storeLayer(ctx, l, layer)
		if err != nil {
			return nil, err
		}
		diff = blob.Digest
		wants = append(wants, i.present(brig.Layer{Diff: diff, Chain: brig.ChainID(chainOf(layers), diff), Blob: blob}))
	}
	layers, err := i.bringAll(ctx, l, wants)
	if err != nil {
		return nil, err
	}
	if err := doc.add(historyDoc{CreatedBy: n.CreatedBy, Author: n.Author, Comment: n.Comment}, diff); err != nil {
		return nil, err
	}
	fault.Point("commit.layered")
	return i.describeDoc(ctx, l, doc, layers, ref)
}

func chainOf(layers []brig.Layer) brig.Digest { return (&brig.Image{Layers: layers}).Chain() }

// storeLayer puts the tar that write makes into a blob, held by l. Its digest is the layer's diffID, for it isn't compressed: that is left
// to a push.
func (i *Images) storeLayer(ctx context.Context, l *lease, write func(context.Context, io.Writer) error) (brig.Descriptor, error) {
	for range storeTries {
		d, err := i.writeBlob(ctx, write)
		if err != nil {
			return d, errs.Wrap(err, "write the layer")
		}
		l.blob(d.Digest)
		if i.Blobs.Has(d.Digest) { // and held: it stays
			return d, nil
		}
	}
	return brig.Descriptor{}, errs.New(errs.Conflict, "the layer is being removed with another image that has it")
}

func (i *Images) writeBlob(ctx context.Context, write func(context.Context, io.Writer) error) (brig.Descriptor, error) {
	w, err := i.Blobs.Create(ctx, "", -1)
	if err != nil {
		return brig.Descriptor{}, err
	}
	defer w.Abort()
	if err := write(ctx, w); err != nil {
		return brig.Descriptor{}, err
	}
	fault.Point("commit.written")
	d, err := w.Commit()
	d.MediaType = typeLayerPlain
	return d, err
}

// present is a layer whose bytes are in a blob already.
func (i *Images) present(x brig.Layer) want {
	return want{
		layer: x,
		src: source{open: func(context.Context, int64) (io.ReadCloser, error) {
			return nil, errs.New(errs.NotFound, "the bytes of layer %s are not in the store", x.Diff)
		}, slots: i.loading},
		begin: func(bool) {},
		tell:  func(string, int64, int64) {},
	}
}

// describeDoc is describe for an image that brig made.
func (i *Images) describeDoc(ctx context.Context, l *lease, d *imageDoc, layers []brig.Layer, ref string) (*brig.Image, error) {
	config, err := d.marshal()
	if err != nil {
		return nil, err
	}
	doc, err := i.Converter.ImageConfig(config)
	if err != nil {
		return nil, err
	}
	img, err := i.describe(ctx, l, doc, layers, config, nil, ref)
	if err == nil && ref != "" {
		img.Tagged = time.Now()
	}
	return img, err
}
