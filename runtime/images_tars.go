package runtime

import (
	"context"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// withTars returns img with the bytes of all its layers in blobs, held by l: those that were built here are packed when somebody needs
// their bytes for the first time. Images that have them get to know it. The chains must be held.
func (i *Images) withTars(ctx context.Context, l *lease, img *brig.Image) (*brig.Image, error) {
	made := map[brig.Digest]brig.Descriptor{}
	for _, x := range img.Layers {
		if x.Blob.Digest != "" {
			continue
		}
		blob, err := i.layerTar(ctx, l, x)
		if err != nil {
			return nil, err
		}
		made[x.Diff] = blob
	}
	if len(made) == 0 {
		return img, nil
	}
	if err := i.recordTars(ctx, made); err != nil {
		return nil, err
	}
	return withBlobs(img, made), nil
}

// withBlobs is img with what is known of the bytes of those of its layers that had none; img itself if it has no such layers.
func withBlobs(img *brig.Image, made map[brig.Digest]brig.Descriptor) *brig.Image {
	var out *brig.Image
	for n, x := range img.Layers {
		blob, ok := made[x.Diff]
		if !ok || x.Blob.Digest != "" {
			continue
		}
		if out == nil {
			c := *img
			c.Layers = append([]brig.Layer{}, img.Layers...)
			out = &c
		}
		out.Layers[n].Blob = blob
	}
	if out == nil {
		return img
	}
	return out
}

// layerTar packs a layer into a blob, which l comes to hold. Of those who need it at the same time one packs, and the others wait.
func (i *Images) layerTar(ctx context.Context, l *lease, x brig.Layer) (brig.Descriptor, error) {
	l.blob(x.Diff) // so that it stays, whoever makes it
	for {
		f, size, err := i.Blobs.Open(x.Diff)
		if err == nil {
			return brig.Descriptor{MediaType: typeLayerPlain, Digest: x.Diff, Size: size}, f.Close()
		}
		if !errs.Is(err, errs.NotFound) {
			return brig.Descriptor{}, err
		}
		i.mu.Lock()
		c := i.packing[x.Diff]
		if c == nil {
			mine := make(chan struct{})
			i.packing[x.Diff] = mine
			i.mu.Unlock()
			var err error
			if !i.Blobs.Has(x.Diff) { // another one may have ended since we looked
				err = i.packBlob(ctx, x)
			}
			i.mu.Lock()
			delete(i.packing, x.Diff)
			close(mine)
			i.mu.Unlock()
			if err != nil {
				return brig.Descriptor{}, err
			}
			continue
		}
		i.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return brig.Descriptor{}, ctx.Err()
		}
	}
}

// packBlob packs a layer into the blob of its diffID. That the bytes are the same as when the image was made is a promise of the packer; if it is
// broken nothing is kept.
func (i *Images) packBlob(ctx context.Context, x brig.Layer) error {
	w, err := i.Blobs.Create(ctx, x.Diff, -1)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := i.packLayer(ctx, x, w); err != nil {
		return err
	}
	fault.Point("layer.packed")
	if _, err := w.Commit(); err != nil {
		return errs.As(errs.Internal, errs.Wrap(err, "layer %s has come out otherwise than when its image was built", shortDigest(x.Diff)))
	}
	return nil
}

// recordTars lets all images know of bytes that there are now for their layers, in one transaction. The blobs are held by the caller.
func (i *Images) recordTars(ctx context.Context, made map[brig.Digest]brig.Descriptor) error {
	if err := i.Syncer.Sync(ctx, i.Blobs.Dir()); err != nil {
		return errs.Wrap(err, "store the bytes of layers")
	}
	i.write.Lock()
	defer i.write.Unlock()
	i.mu.Lock()
	var puts []brig.Record
	changed := map[*imageEntry]*brig.Image{}
	for _, e := range i.images {
		img := withBlobs(e.img, made)
		if img == e.img {
			continue
		}
		r, err := imagePut(img)
		if err != nil {
			i.mu.Unlock()
			return err
		}
		changed[e], puts = img, append(puts, r)
	}
	i.mu.Unlock()
	if len(puts) == 0 {
		return nil // removed meanwhile
	}
	if err := i.Records.Put(ctx, puts, nil); err != nil {
		return errs.Wrap(err, "record the bytes of layers")
	}
	fault.Point("tars.recorded")
	i.mu.Lock()
	defer i.mu.Unlock()
	for e, img := range changed {
		for n, x := range img.Layers {
			if e.img.Layers[n].Blob.Digest != x.Blob.Digest {
				e.lease.blob(x.Blob.Digest) // the caller holds it, so that this doesn't wait
				if i.known[x.Chain].Diff == x.Diff {
					i.known[x.Chain] = x
				}
			}
		}
		e.img = img
	}
	return nil
}
