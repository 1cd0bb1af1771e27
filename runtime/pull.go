package runtime

import (
	"context"
	"io"
	"time"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Pull fetches an image, or every tag of a repository, and reports as dockerd does. If it fails or ctx ends, nothing of it stays but what
// others need too; with All, the tags that were complete stay.
func (i *Images) Pull(ctx context.Context, r brig.PullRequest, progress func(brig.Progress)) error {
	ctx, cancel := i.joinContext(ctx)
	defer cancel()
	rep := newReporter(progress)
	defer rep.close()
	named, err := pullRef(r.Name, r.Tag)
	if err != nil {
		return err
	}
	if !r.All {
		updated, err := i.pullOne(ctx, named, r, rep)
		if err != nil {
			return err
		}
		i.pulled(rep, reference.FamiliarString(named), updated)
		i.warnPlatform(rep, named, r.Platform)
		return nil
	}
	return i.pullAll(ctx, named, r, rep)
}

// warnPlatform says so if what was pulled isn't for the platform that was asked for. As dockerd, a pull takes an image that its registry
// has for one platform alone.
func (i *Images) warnPlatform(rep *reporter, named reference.Named, platform string) {
	i.mu.Lock()
	e, _, err := i.find(named.String())
	var img *brig.Image
	if err == nil {
		img = e.img // it may be replaced as soon as its ACI ID is known
	}
	i.mu.Unlock()
	if err == nil {
		err = i.checkPlatform(img, reference.FamiliarName(named), platform)
	}
	if err != nil {
		rep.say("", "WARNING: "+err.Error())
	}
}

// pullAll pulls every tag of a repository. There is one event for all, as with dockerd.
func (i *Images) pullAll(ctx context.Context, named reference.Named, r brig.PullRequest, rep *reporter) error {
	tags, err := i.Registry.Tags(ctx, named.Name(), r.Auth)
	if err != nil {
		return err
	}
	updated := false
	name := reference.FamiliarName(named)
	for _, tag := range tags {
		tagged, err := reference.WithTag(reference.TrimNamed(named), tag)
		if err != nil {
			return errs.As(errs.Internal, errs.Wrap(err, "tag %q of %s", tag, named.Name()))
		}
		u, err := i.pullOne(ctx, tagged, r, rep)
		if err != nil {
			return err
		}
		updated = updated || u
	}
	i.event("pull", &brig.Image{}, name, name)
	i.pulled(rep, name, updated)
	return nil
}

// pulled reports a pull's outcome; what is the familiar reference.
func (i *Images) pulled(rep *reporter, what string, updated bool) {
	if updated {
		rep.say("", "Status: Downloaded newer image for "+what)
	} else {
		rep.say("", "Status: Image is up to date for "+what)
	}
}

// joinContext returns ctx, ended by Close too.
func (i *Images) joinContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(i.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// pullOne pulls one reference. updated: it named another image, or none, before.
func (i *Images) pullOne(ctx context.Context, named reference.Named, r brig.PullRequest, rep *reporter) (updated bool, err error) {
	begin := time.Now()
	defer func() { i.Observer.Pulled(time.Since(begin), err) }()
	remote, err := i.Registry.Resolve(ctx, named.String(), r.Platform, r.Auth)
	if err != nil {
		return false, err
	}
	what := named.String()
	if tagged, ok := named.(reference.Tagged); ok {
		what = tagged.Tag()
	}
	rep.say(what, "Pulling from "+reference.Path(named))
	l := i.lease()
	defer l.release(ctx)
	img, err := i.obtain(ctx, l, remote, named.String(), rep)
	if err != nil {
		return false, err
	}
	refs := []string{digestRef(named, remote.Digest)}
	if refs[0] != named.String() {
		refs = append(refs, named.String())
	}
	moved, err := i.commit(ctx, img, refs)
	if err != nil {
		return false, err
	}
	rep.say("", "Digest: "+string(remote.Digest))
	if !r.All {
		i.event("pull", img, reference.FamiliarString(named), reference.FamiliarName(named))
	}
	_, updated = moved[named.String()]
	return updated, nil
}

// obtain brings all of a resolved image into the store, held by l, and makes its record; an image that is whole there is taken as it is.
func (i *Images) obtain(ctx context.Context, l *lease, remote *brig.Remote, ref string, rep *reporter) (*brig.Image, error) {
	id := brig.DigestOf(remote.Config)
	if img, err := i.whole(ctx, l, id); img != nil || err != nil {
		return img, err
	}
	doc, err := i.Converter.ImageConfig(remote.Config)
	if err != nil {
		return nil, errs.Wrap(err, "config of %s", ref)
	}
	if len(doc.Diffs) != len(remote.Layers) {
		return nil, errs.New(errs.Invalid, "image %s has %d layers, but its config names %d", ref, len(remote.Layers), len(doc.Diffs))
	}
	wants := make([]want, len(doc.Diffs))
	for n, chain := range brig.ChainIDs(doc.Diffs) {
		d := remote.Layers[n]
		id := shortDigest(d.Digest)
		wants[n] = want{
			layer: brig.Layer{Diff: doc.Diffs[n], Chain: chain, Blob: d},
			src: source{
				open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
					return i.Registry.Layer(ctx, remote, d, offset)
				},
				span: func(ctx context.Context, from, to int64) (io.ReadCloser, int64, error) {
					return i.Registry.Span(ctx, remote, d, from, to)
				},
				slots: i.pulling,
			},
			begin: func(there bool) {
				if there {
					rep.say(id, "Already exists")
				} else {
					rep.say(id, "Pulling fs layer")
				}
			},
			tell: func(status string, current, total int64) {
				rep.add(brig.Progress{ID: id, Status: status, Current: current, Total: total})
			},
		}
	}
	layers, err := i.bringAll(ctx, l, wants)
	if err != nil {
		return nil, err
	}
	return i.describe(ctx, l, doc, layers, remote.Config, remote.Manifest, ref)
}

// whole returns the image of that ID, held by l, if it is there with all its layers; else nil.
func (i *Images) whole(ctx context.Context, l *lease, id brig.Digest) (*brig.Image, error) {
	i.mu.Lock()
	e := i.images[id]
	if e == nil {
		i.mu.Unlock()
		return nil, nil
	}
	img := e.img
	i.mu.Unlock()
	l.image(img)
	for _, x := range img.Layers {
		has, err := i.Layers.Has(ctx, x.Chain)
		if err != nil {
			return nil, errs.Wrap(err, "look for layer %s", x.Chain)
		}
		if !has || !i.hasBytes(x) {
			return nil, nil
		}
	}
	if !i.documents(img) {
		return nil, nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.images[id] != e {
		return nil, nil
	}
	return img, nil
}

// A want is one layer to be brought.
type want struct {
	layer brig.Layer
	src   source
	begin func(there bool) // called once, before any tell
	tell  func(status string, current, total int64)
}

// bringAll brings layers, from the lowest up, into the store, held by l. It fails at once when one of them does, and when it returns no
// work goes on for it. The layers that it returns have their size, and may name other bytes for the same tree than wanted.
func (i *Images) bringAll(ctx context.Context, l *lease, wants []want) ([]brig.Layer, error) {
	for _, w := range wants {
		l.chain(w.layer.Chain)
		l.blob(w.layer.Blob.Digest)
	}
	flights := make([]*flight, len(wants))
	layers := make([]brig.Layer, len(wants))
	failed := make(chan error, len(wants))
	var joined []*flight
	defer func() { i.leave(joined) }()
	var parent brig.Digest
	var below *flight
	for n, w := range wants {
		layers[n] = w.layer
		p := &passenger{failed: failed, begin: w.begin, tell: w.tell}
		f, err := i.join(ctx, l, &layers[n], parent, below, w.src, p)
		if err != nil {
			return nil, err
		}
		if f != nil {
			joined = append(joined, f)
		} else {
			w.begin(true)
		}
		flights[n], below, parent = f, f, w.layer.Chain
	}
	for n, f := range flights {
		if f == nil {
			continue
		}
		select {
		case <-f.done:
			if f.err != nil {
				return nil, f.err
			}
			layers[n] = f.layer
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return layers, nil
}

// describe makes an image's record and puts its documents into blobs, held by l. manifest may be nil.
func (i *Images) describe(ctx context.Context, l *lease, doc *brig.Document, layers []brig.Layer, config, manifest []byte, ref string) (*brig.Image, error) {
	img := &brig.Image{ID: brig.DigestOf(config), Created: parseTime(doc.Created), Platform: doc.Platform, Layers: layers, Config: doc.Config, Pulled: time.Now()}
	for _, x := range layers {
		img.Size += x.Size
	}
	if manifest != nil {
		img.Manifest = brig.DigestOf(manifest)
	}
	name, aci, err := i.Converter.ACIManifest(config, ref, img.Manifest)
	if err != nil {
		return nil, errs.Wrap(err, "convert %s to an appc manifest", shortDigest(img.ID))
	}
	img.ACI = brig.ACI{Name: name, Manifest: brig.DigestOf(aci)}
	for _, b := range [][]byte{config, manifest, aci} {
		if b == nil {
			continue
		}
		l.blob(brig.DigestOf(b))
		if _, err := i.Blobs.PutBytes(ctx, b); err != nil {
			return nil, errs.Wrap(err, "store the documents of image %s", shortDigest(img.ID))
		}
	}
	return img, nil
}

// parseTime reads RFC 3339; what is no time is the zero time, as images without a date have it.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
