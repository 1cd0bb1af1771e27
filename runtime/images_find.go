package runtime

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// find returns the image that s means, and the normalized reference that led to it, "" if an ID or a prefix of one did. A name wins over
// a prefix. mu is held. A prefix that several images share is NotFound, as with dockerd.
func (i *Images) find(s string) (e *imageEntry, ref string, err error) {
	p, err := parseRef(s)
	if err != nil {
		return nil, "", err
	}
	if p.named == nil {
		if e = i.images[p.id]; e == nil {
			return nil, "", p.missing()
		}
		return e, "", nil
	}
	if id, ok := i.refs[p.named.String()]; ok {
		return i.images[id], p.named.String(), nil
	}
	if e = i.search(p.given); e == nil {
		return nil, "", p.missing()
	}
	return e, "", nil
}

// search finds the one image whose ID begins with prefix; nil if none or several do. mu is held.
func (i *Images) search(prefix string) (found *imageEntry) {
	prefix = strings.TrimPrefix(prefix, "sha256:")
	if prefix == "" {
		return nil
	}
	for id, e := range i.images {
		if strings.HasPrefix(id.Hex(), prefix) {
			if found != nil {
				return nil
			}
			found = e
		}
	}
	return found
}

// With finds an image and calls use with it; the image is not removed before use returns. platform, if not "", is os[/arch[/variant]].
// NotFound: no such image, or only one for another platform. use must not call With, ImageRemove or Pull of the same image.
func (i *Images) With(ctx context.Context, ref, platform string, use func(*brig.Image) error) error {
	i.mu.Lock()
	e, err := i.pin(ctx, ref, platform)
	if err != nil {
		i.mu.Unlock()
		return err
	}
	img := e.img
	i.mu.Unlock()
	defer i.unpin(e)
	if err := i.checkPlatform(img, ref, platform); err != nil {
		return err
	}
	return use(img)
}

// pin finds an image and keeps it from being removed until unpin. It waits for a removal under way, since that may fail. mu is held.
func (i *Images) pin(ctx context.Context, ref, platform string) (*imageEntry, error) {
	for {
		e, err := i.findFor(ref, platform)
		if err != nil {
			return nil, err
		}
		if !e.removing {
			e.pins++
			return e, nil
		}
		if err := i.wait(ctx); err != nil {
			return nil, err
		}
	}
}

func (i *Images) unpin(e *imageEntry) {
	i.mu.Lock()
	defer i.mu.Unlock()
	e.pins--
	i.notify()
}

// borrow finds an image and takes a lease on all that it needs; unlike With it lets the image itself be removed meanwhile.
func (i *Images) borrow(ctx context.Context, ref string) (img *brig.Image, l *lease, err error) {
	err = i.With(ctx, ref, "", func(found *brig.Image) error {
		img, l = found, i.lease()
		l.image(found)
		return nil
	})
	return img, l, err
}

// checkPlatform is the error, NotFound in dockerd's words, of an image that isn't made for the platform asked for; "" asks for none.
func (i *Images) checkPlatform(img *brig.Image, ref, platform string) error {
	if platform == "" {
		return nil
	}
	want := i.wanted(platform)
	if want.Suits(img.Platform) {
		return nil
	}
	return errs.New(errs.NotFound, "image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
		ref, img.Platform, want.Normal())
}

// wanted reads a platform; what it doesn't say of the architecture is the host's.
func (i *Images) wanted(platform string) brig.Platform {
	p := brig.ParsePlatform(platform)
	if p.Architecture == "" {
		p.Architecture, p.Variant = i.Host.Architecture, i.Host.Variant
	}
	return p
}

// findFor finds what ref means for a platform, "" for any: a name that was pulled for several means the last one, and each of the others to who asks
// for its platform. If there is none for it, it is what ref means. mu is held.
func (i *Images) findFor(ref, platform string) (*imageEntry, error) {
	e, name, err := i.find(ref)
	if err != nil || platform == "" || name == "" {
		return e, err
	}
	want := i.wanted(platform)
	if want.Suits(e.img.Platform) {
		return e, nil
	}
	for _, id := range i.others[name] {
		if o := i.images[id]; o != nil && want.Suits(o.img.Platform) {
			return o, nil
		}
	}
	return e, nil
}

// before lists what ref has meant for other platforms than img's, one for each, if it means img from now on. mu is held.
func (i *Images) before(ref string, img *brig.Image) (out []brig.Digest) {
	had := []brig.Platform{img.Platform.Normal()}
	for _, id := range append([]brig.Digest{i.refs[ref]}, i.others[ref]...) {
		e := i.images[id]
		if e == nil || slices.Contains(had, e.img.Platform.Normal()) {
			continue
		}
		had = append(had, e.img.Platform.Normal())
		out = append(out, id)
	}
	return out
}

// ImageTag gives an image one more name, which another image may lose by it.
func (i *Images) ImageTag(ctx context.Context, ref, repo, tag string) error {
	named, err := tagRef(repo, tag)
	if err != nil {
		return err
	}
	i.write.Lock()
	defer i.write.Unlock()
	i.mu.Lock()
	e, _, err := i.find(ref)
	i.mu.Unlock()
	if err != nil {
		return err
	}
	img := *e.img
	img.Tagged = time.Now()
	rec, err := imagePut(&img)
	if err != nil {
		return err
	}
	if err := i.Records.Put(ctx, []brig.Record{rec, refPut(named.String(), img.ID, nil)}, nil); err != nil {
		return errs.Wrap(err, "tag image %s", ref)
	}
	i.mu.Lock()
	delete(i.others, named.String())
	e.img = &img
	i.refs[named.String()] = e.img.ID
	i.mu.Unlock()
	i.event("tag", e.img, string(e.img.ID), reference.FamiliarString(named))
	return nil
}

func refPut(ref string, id brig.Digest, others []brig.Digest) brig.Record {
	v, _ := json.Marshal(refRecord{id, others}) // a struct of strings has no way to fail
	return brig.Record{Kind: kindRef, Key: ref, Value: v}
}

func imagePut(img *brig.Image) (brig.Record, error) {
	v, err := json.Marshal(img)
	return brig.Record{Kind: kindImage, Key: img.ID.Hex(), Value: v}, err
}

// commit records img, if it is new, and lets refs (normalized) name it, in one transaction; layers and blobs are synced before. All that img names is held by the caller. It
// returns the references that did not name it before, with the images that they named ("" for none).
func (i *Images) commit(ctx context.Context, img *brig.Image, refs []string) (moved map[string]brig.Digest, err error) {
	i.mu.Lock()
	old := i.images[img.ID]
	i.mu.Unlock()
	if old == nil {
		if err := i.Syncer.Sync(ctx, i.Blobs.Dir()); err != nil {
			return nil, errs.Wrap(err, "store image %s", shortDigest(img.ID))
		}
	}
	return i.commitSynced(ctx, img, refs)
}

// commitSynced is commit for what has been synced.
func (i *Images) commitSynced(ctx context.Context, img *brig.Image, refs []string) (moved map[string]brig.Digest, err error) {
	i.write.Lock()
	defer i.write.Unlock()
	i.mu.Lock()
	old := i.images[img.ID] // it may have come or gone meanwhile; either way what it names is synced
	moved = map[string]brig.Digest{}
	others := map[string][]brig.Digest{}
	for _, r := range refs {
		if i.refs[r] != img.ID {
			moved[r], others[r] = i.refs[r], i.before(r, img)
		}
	}
	i.mu.Unlock()
	var puts []brig.Record
	if old == nil {
		r, err := imagePut(img)
		if err != nil {
			return nil, err
		}
		puts = append(puts, r)
	}
	for r := range moved {
		puts = append(puts, refPut(r, img.ID, others[r]))
	}
	if len(puts) == 0 {
		return moved, nil
	}
	fault.Point("image.whole")
	if err := i.Records.Put(ctx, puts, nil); err != nil {
		return nil, errs.Wrap(err, "record image %s", shortDigest(img.ID))
	}
	fault.Point("image.recorded")
	if old == nil {
		i.enter(img)
		i.aci.add(img.ID)
		i.aci.start(i.ctx)
	}
	i.mu.Lock()
	for r := range moved {
		i.refs[r], i.others[r] = img.ID, others[r]
	}
	i.mu.Unlock()
	return moved, nil
}
