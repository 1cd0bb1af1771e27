package runtime

import (
	"context"
	"io"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// FindACI finds an image by what appc calls it. IDs that are not known yet are computed if one is asked for.
func (i *Images) FindACI(ctx context.Context, d brig.ACIDependency) (brig.Digest, string, error) {
	if d.ID != "" {
		all, err := i.ImageList(ctx)
		if err != nil {
			return "", "", err
		}
		for _, info := range all {
			if info.ACI.ID == "" && (d.Name == "" || d.Name == info.ACI.Name) {
				if err := i.computeACI(ctx, info.ID, atOnce); err != nil && !errs.Is(err, errs.NotFound) {
					return "", "", err
				}
			}
		}
	}
	img, l, err := i.dependency(ctx, d)
	if errs.Is(err, errs.NotFound) {
		return "", "", errs.New(errs.NotFound, "No such image: %s", describeDependency(d))
	}
	if err != nil {
		return "", "", err
	}
	l.release(ctx)
	info, err := i.ImageGet(ctx, string(img.ID))
	if err == nil && len(info.Tags) > 0 {
		return img.ID, info.Tags[0], nil
	}
	return img.ID, string(img.ID), nil
}

// atOnce has computeACI work at once, whatever else is under way.
func atOnce(w io.Writer) io.Writer { return w }

// ACIDocument returns an image's ACI ID, computed if it isn't known yet, and the exact bytes of its appc manifest.
func (i *Images) ACIDocument(ctx context.Context, id brig.Digest) (aciID string, manifest []byte, err error) {
	info, err := i.ImageGet(ctx, string(id))
	if err == nil && info.ACI.ID == "" {
		if err = i.computeACI(ctx, id, atOnce); err == nil {
			info, err = i.ImageGet(ctx, string(id))
		}
	}
	if err != nil {
		return "", nil, errs.Wrap(err, "the ACI of image %s", shortDigest(id))
	}
	manifest, err = i.Blobs.Get(info.ACI.Manifest)
	return info.ACI.ID, manifest, errs.Wrap(err, "appc manifest of image %s", shortDigest(id))
}
