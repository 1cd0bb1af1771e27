package runtime

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Save writes images as docker save. A name without a tag means all tags of that repository; an image that is named several times is written
// once, with all those names. NotFound: nothing is written.
func (i *Images) Save(ctx context.Context, refs []string, w io.Writer) error {
	l := i.lease()
	defer l.release(ctx)
	images, err := i.choose(ctx, l, refs)
	if err != nil {
		return err
	}
	out := make([]brig.ArchiveImage, len(images))
	for n, c := range images {
		if c.img, err = i.withTars(ctx, l, c.img); err != nil {
			return err
		}
		if out[n], err = i.toArchive(c.img); err != nil {
			return err
		}
		out[n].Refs = c.tags
	}
	if err := i.Archives.WriteArchive(ctx, w, out); err != nil {
		return errs.Wrap(err, "write archive")
	}
	for _, c := range images {
		i.event("save", c.img, string(c.img.ID), string(c.img.ID))
	}
	return nil
}

// A chosen image is to be saved with those familiar tags.
type chosen struct {
	img  *brig.Image
	tags []string
}

// choose finds what refs mean, in their order, and takes holds on it into l.
func (i *Images) choose(ctx context.Context, l *lease, refs []string) ([]*chosen, error) {
	var out []*chosen
	byID := map[brig.Digest]*chosen{}
	for _, s := range refs {
		tags, err := i.tagsMeant(s)
		if err != nil {
			return nil, err
		}
		given := tags
		if len(given) == 0 {
			given = []string{s}
		}
		for n, name := range given {
			img, borrowed, err := i.borrow(ctx, name)
			if errs.Is(err, errs.NotFound) {
				return nil, notSaved(s)
			}
			if err != nil {
				return nil, err
			}
			l.chains, l.blobs = append(l.chains, borrowed.chains...), append(l.blobs, borrowed.blobs...)
			c := byID[img.ID]
			if c == nil {
				c = &chosen{img: img}
				byID[img.ID], out = c, append(out, c)
			}
			if len(tags) > 0 {
				c.tags = appendNew(c.tags, familiar(tags[n]))
			}
		}
	}
	return out, nil
}

// notSaved is dockerd's error for a name that docker save does not find; it differs from all others.
func notSaved(s string) error {
	if named, err := reference.ParseNormalizedNamed(s); err == nil && !reference.IsNameOnly(named) && reference.FamiliarName(named) != "sha256" {
		return errs.New(errs.NotFound, "reference does not exist")
	}
	return errs.New(errs.NotFound, "No such image: %s", s)
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// tagsMeant returns the normalized tags that s names: one, or for a repository alone all of it; none if s is an ID or a digest.
func (i *Images) tagsMeant(s string) ([]string, error) {
	p, err := parseRef(s)
	if err != nil || p.named == nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	given, err := reference.ParseNormalizedNamed(s)
	if err != nil || !reference.IsNameOnly(given) {
		if _, ok := i.refs[p.named.String()]; ok && !isDigestRef(p.named.String()) {
			return []string{p.named.String()}, nil
		}
		return nil, nil
	}
	var out []string
	for _, r := range slices.Sorted(maps.Keys(i.refs)) {
		if refName(r) == given.Name() && !isDigestRef(r) {
			out = append(out, r)
		}
	}
	return out, nil
}

// toArchive describes an image for the archive writer. The exact manifest goes along only if it describes the bytes that are here.
func (i *Images) toArchive(img *brig.Image) (brig.ArchiveImage, error) {
	config, err := i.Blobs.Get(img.ID)
	if err != nil {
		return brig.ArchiveImage{}, errs.Wrap(err, "config of image %s", shortDigest(img.ID))
	}
	out := brig.ArchiveImage{Config: config}
	for _, x := range img.Layers {
		out.Layers = append(out.Layers, i.archived(x))
	}
	if img.Manifest != "" {
		manifest, err := i.Blobs.Get(img.Manifest)
		if err != nil {
			return brig.ArchiveImage{}, errs.Wrap(err, "manifest of image %s", shortDigest(img.ID))
		}
		if describes(manifest, img) {
			out.Manifest = manifest
		}
	}
	return out, nil
}

// describes reports whether a schema2 or OCI manifest names exactly the config and the layers of img, as they are kept.
func describes(manifest []byte, img *brig.Image) bool {
	var m struct {
		Config struct{ Digest brig.Digest }
		Layers []struct{ Digest brig.Digest }
	}
	if err := json.Unmarshal(manifest, &m); err != nil || m.Config.Digest != img.ID || len(m.Layers) != len(img.Layers) {
		return false
	}
	for n, x := range img.Layers {
		if m.Layers[n].Digest != x.Blob.Digest {
			return false
		}
	}
	return true
}
