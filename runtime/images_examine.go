package runtime

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/tarfs"
)

// Examine checks that each image has its layers and its blobs, with Deep by reading all blobs. Its references are in order, since Images
// doesn't load others. To mend an image, layers that are missing are made again from their blobs, and what else is missing is pulled again.
func (i *Images) Examine(ctx context.Context, o brig.Examination, d *brig.Diagnosis) error {
	i.mu.Lock()
	ids := slices.Sorted(maps.Keys(i.images))
	i.mu.Unlock()
	bad := map[brig.Digest]bool{} // blobs that have been read and found changed
	good := map[brig.Digest]bool{}
	for _, id := range ids {
		img, l, err := i.borrow(ctx, string(id))
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		err = i.examine(ctx, img, o, d, good, bad)
		l.release(ctx)
		if err != nil {
			return err
		}
	}
	return nil
}

// examine looks at one image, on which the caller has a lease.
func (i *Images) examine(ctx context.Context, img *brig.Image, o brig.Examination, d *brig.Diagnosis, good, bad map[brig.Digest]bool) error {
	var problems []string
	for n, x := range img.Layers {
		has, err := i.Layers.Has(ctx, x.Chain)
		if err != nil {
			return errs.Wrap(err, "look for layer %s", x.Chain)
		}
		if !has {
			problems = append(problems, "layer "+shortDigest(x.Diff)+" is not in the store")
		}
		problems = append(problems, i.examineBlob(ctx, "the bytes of layer "+shortDigest(x.Diff), img.Layers[n].Blob.Digest, o, good, bad)...)
	}
	for what, b := range map[string]brig.Digest{"its config": img.ID, "its manifest": img.Manifest, "its appc manifest": img.ACI.Manifest} {
		problems = append(problems, i.examineBlob(ctx, what, b, o, good, bad)...)
	}
	if len(problems) == 0 {
		return nil
	}
	slices.Sort(problems)
	i.mu.Lock()
	refs := i.refs.of(img.ID)
	i.mu.Unlock()
	f := brig.Finding{Check: "image", Subject: shortDigest(img.ID), Problem: strings.Join(problems, "; "), Mend: "make its layers again from what is here, or pull it again"}
	if len(refs) > 0 {
		f.Subject += " (" + familiar(refs[0]) + ")"
	}
	d.Add(f, o.Fix, func() error { return i.mend(ctx, img, refs) })
	return nil
}

// examineBlob looks for one blob, or reads it. One that has changed is removed if it shall be mended: its bytes are of no use.
func (i *Images) examineBlob(ctx context.Context, what string, b brig.Digest, o brig.Examination, good, bad map[brig.Digest]bool) []string {
	switch {
	case b == "" || good[b]:
		return nil
	case bad[b]:
		return []string{what + " have changed on disk"}
	case !i.Blobs.Has(b):
		return []string{what + ": blob " + shortDigest(b) + " is missing"}
	case !o.Deep:
		return nil
	}
	if err := i.readBlob(ctx, b); err != nil {
		if ctx.Err() == nil && o.Fix {
			err = cmp.Or(i.Blobs.Remove(b), err)
		}
		bad[b] = true
		return []string{what + ": " + err.Error()}
	}
	good[b] = true
	return nil
}

// readBlob compares a blob with its name.
func (i *Images) readBlob(ctx context.Context, b brig.Digest) error {
	f, _, err := i.Blobs.Open(b)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return errs.Wrap(err, "read blob %s", shortDigest(b))
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != b.Hex() {
		return errs.New(errs.Internal, "blob %s has changed on disk", shortDigest(b))
	}
	return nil
}

// mend makes missing layers again from their blobs; if that isn't enough it pulls the image again by its digest.
func (i *Images) mend(ctx context.Context, img *brig.Image, refs []string) error {
	err := i.rebuild(ctx, img)
	if errors.Is(err, errBuildAgain) {
		return err
	}
	if err == nil && i.projectAgain(ctx, img, refs) == nil && i.complete(ctx, img) {
		return nil
	}
	n := slices.IndexFunc(refs, isDigestRef)
	if n < 0 {
		return errs.New(errs.Unavailable, "no registry is known for it: remove it, and load or import it again")
	}
	named, err := reference.ParseNormalizedNamed(refs[n])
	if err != nil {
		return err
	}
	digest := ""
	if d, ok := named.(reference.Digested); ok {
		digest = d.Digest().String()
	}
	if err := i.Pull(ctx, brig.PullRequest{Name: named.Name(), Tag: digest, Platform: img.Platform.String()}, func(brig.Progress) {}); err != nil {
		return errs.Wrap(err, "pull it again")
	}
	if err := i.projectAgain(ctx, img, refs); err != nil {
		return err
	}
	if !i.complete(ctx, img) {
		return errs.New(errs.Internal, "it was pulled again and is still not whole")
	}
	return nil
}

// errBuildAgain is why a layer that was built here can't be mended.
var errBuildAgain = errors.New("it was built here, and its bytes are nowhere else: build the image again")

// rebuild applies, from the lowest up, the layers that are missing and whose blobs are there.
func (i *Images) rebuild(ctx context.Context, img *brig.Image) error {
	var parent brig.Digest
	for _, x := range img.Layers {
		has, err := i.Layers.Has(ctx, x.Chain)
		if err == nil && !has {
			err = i.reapply(ctx, parent, x)
		}
		if err != nil {
			return errs.Wrap(err, "make layer %s again", shortDigest(x.Diff))
		}
		parent = x.Chain
	}
	return nil
}

// projectAgain makes a missing appc manifest again from the config. It depends on the name that the image came by, which is not recorded: all
// are tried.
func (i *Images) projectAgain(ctx context.Context, img *brig.Image, refs []string) error {
	if i.Blobs.Has(img.ACI.Manifest) {
		return nil
	}
	config, err := i.Blobs.Get(img.ID)
	if err != nil {
		return err
	}
	for _, ref := range append([]string{""}, refs...) {
		_, aci, err := i.Converter.ACIManifest(config, ref, img.Manifest)
		if err == nil && brig.DigestOf(aci) == img.ACI.Manifest {
			_, err = i.Blobs.PutBytes(ctx, aci)
			return err
		}
	}
	return errs.New(errs.NotFound, "none of its names gives the appc manifest that it had")
}

func (i *Images) reapply(ctx context.Context, parent brig.Digest, x brig.Layer) error {
	if x.Blob.Digest == "" {
		return errBuildAgain
	}
	f, _, err := i.Blobs.Open(x.Blob.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	tar, err := i.Archives.Decompress(ctx, f, x.Blob.MediaType)
	if err != nil {
		return err
	}
	defer tar.Close()
	if x.Chain == brig.ChainID(parent, x.Diff) {
		_, err = i.Layers.Apply(ctx, parent, x.Chain, x.Diff, tar, nil)
	} else {
		err = i.regrow(ctx, parent, x, tar)
	}
	if err != nil {
		return err
	}
	return i.Syncer.Sync(ctx)
}

// regrow makes a layer that was built here again from its tar, under the name that it had.
func (i *Images) regrow(ctx context.Context, parent brig.Digest, x brig.Layer, tar io.Reader) (err error) {
	rid, path, err := i.clone(ctx, parent)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.discard(context.WithoutCancel(ctx), rid)) }()
	h := sha256.New()
	if _, err := tarfs.Extract(ctx, path, io.TeeReader(tar, h), tarfs.Options{Whiteouts: tarfs.Apply}); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != x.Diff.Hex() {
		return errs.New(errs.Internal, "its bytes have the digest %s", got)
	}
	_, made, err := i.Trees.CommitTree(ctx, rid, x.Chain)
	if err == nil && !made {
		err = errs.New(errs.Internal, "its bytes change nothing")
	}
	return err
}

// complete reports whether all that an image's record names is there.
func (i *Images) complete(ctx context.Context, img *brig.Image) bool {
	for _, x := range img.Layers {
		if has, err := i.Layers.Has(ctx, x.Chain); err != nil || !has || !i.hasBytes(x) {
			return false
		}
	}
	return i.documents(img)
}

// hasBytes reports whether a layer's bytes are here, or need not be since they can be made of its chain.
func (i *Images) hasBytes(x brig.Layer) bool {
	return x.Blob.Digest == "" || i.Blobs.Has(x.Blob.Digest)
}

// documents reports whether an image's config and manifests are there.
func (i *Images) documents(img *brig.Image) bool {
	for _, b := range []brig.Digest{img.ID, img.Manifest, img.ACI.Manifest} {
		if b != "" && !i.Blobs.Has(b) {
			return false
		}
	}
	return true
}

// Temporary lists the clones that Images has made for a while; no record names them.
func (i *Images) Temporary() []brig.RID {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Collect(maps.Keys(i.temporary))
}
