package runtime

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/discovery"
	"github.com/brigd/brig/internal/errs"
)

// ImportACI makes an image of an ACI and keeps the ACI's manifest and ID as they came. Docker's config is a projection of the manifest.
// A layer that a dependency has at the same place is shared with it.
//
// A detached signature, if there is one, must be good and of a key that is trusted for the ACI's name, before anything of the ACI is
// unpacked or seen. Without one UnsignedACIs decides. Dependencies must be here already, or are brought the same way if r asks for it
// or the ACI itself comes from the web. Those that came stay, as images of their own, also when what needs them fails; of all else
// that fails nothing stays. Forbidden: the signature, or that there is none. NotFound: the ACI or a dependency.
func (i *Images) ImportACI(ctx context.Context, r brig.ACIImport, progress func(brig.Progress)) (*brig.ACIImported, error) {
	ctx, cancel := i.joinContext(ctx)
	defer cancel()
	rep := newReporter(progress)
	defer rep.close()
	q := &aciQuest{i: i, rep: rep, insecure: r.Insecure, discover: r.Discover || r.From != ""}
	switch {
	case r.From == "":
		return q.take(ctx, aciInput{what: "the ACI", body: r.Body, signature: r.Signature, given: true})
	case strings.Contains(r.From, "://"):
		return q.fetch(ctx, brig.ACIEndpoint{ACI: r.From, Signature: signatureURL(r.From)}, nil, "")
	}
	name, err := discovery.ParseName(r.From)
	if err != nil {
		return nil, err
	}
	return q.byName(ctx, name, "")
}

// install makes an image of an ACI whose signature has been verified.
func (q *aciQuest) install(ctx context.Context, a *brig.ACIArchive) (_ *brig.ACIImported, err error) {
	i := q.i
	lower, release, err := q.dependencies(ctx, a)
	if err != nil {
		return nil, err
	}
	defer release()
	img, warnings, closeTop, err := i.ACIs.ImageFromACI(ctx, a, lower, i.Spool)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeTop()) }()
	got, err := i.keepACI(ctx, a, &img)
	if err != nil {
		return nil, err
	}
	got.Warnings = warnings
	return got, nil
}

// keepACI stores the image that was made of an ACI under its name.
func (i *Images) keepACI(ctx context.Context, a *brig.ACIArchive, from *brig.ArchiveImage) (*brig.ACIImported, error) {
	l := i.lease()
	defer l.release(ctx)
	rep := newReporter(func(brig.Progress) {})
	defer rep.close()
	var refs []string
	for _, r := range from.Refs {
		named, err := tagRef(r, "")
		if err != nil {
			return nil, errs.Wrap(err, "name the ACI %s", a.Name)
		}
		refs = append(refs, named.String())
	}
	taken, err := i.take(ctx, l, from, refs, rep)
	if err != nil {
		return nil, err
	}
	img := *taken
	img.ACI = brig.ACI{Name: a.Name, Manifest: brig.DigestOf(a.Manifest), ID: a.ID, Own: true}
	l.blob(img.ACI.Manifest)
	if _, err := i.Blobs.PutBytes(ctx, a.Manifest); err != nil {
		return nil, errs.Wrap(err, "store the manifest of ACI %s", a.Name)
	}
	if _, err := i.commit(ctx, &img, refs); err != nil {
		return nil, err
	}
	i.event("import", &img, string(img.ID), string(img.ID))
	out := &brig.ACIImported{ID: img.ID, ACI: a.ID, Name: a.Name}
	if len(refs) > 0 {
		out.Ref = familiar(refs[0])
	}
	return out, nil
}

// dependencies finds the layers that an ACI stands on, from the lowest up. They stay in the store until release.
func (q *aciQuest) dependencies(ctx context.Context, a *brig.ACIArchive) (layers []brig.ArchiveLayer, release func(), err error) {
	var leases []*lease
	all := func() {
		for _, l := range leases {
			l.release(ctx)
		}
	}
	defer func() {
		if err != nil {
			all()
		}
	}()
	for _, d := range a.Dependencies {
		img, l, err := q.dependency(ctx, a.Name, d)
		if err != nil {
			return nil, nil, errs.Wrap(err, "ACI %s", a.Name)
		}
		leases = append(leases, l)
		if img, err = q.i.withTars(ctx, l, img); err != nil {
			return nil, nil, err
		}
		for _, x := range img.Layers {
			blob := x.Blob
			layers = append(layers, brig.ArchiveLayer{Blob: blob, Diff: x.Diff, Open: func() (io.ReadCloser, error) {
				f, _, err := q.i.Blobs.Open(blob.Digest)
				return f, err
			}})
		}
	}
	return layers, all, nil
}

// dependency finds the image that satisfies d, whose name may be missing, the newest if several do, and holds it.
func (i *Images) dependency(ctx context.Context, d brig.ACIDependency) (*brig.Image, *lease, error) {
	all, err := i.ImageList(ctx)
	if err != nil {
		return nil, nil, err
	}
	slices.SortStableFunc(all, func(a, b brig.ImageInfo) int { return b.Pulled.Compare(a.Pulled) })
	why := "no image has this name"
	for _, info := range all {
		if d.Name != "" && info.ACI.Name != d.Name {
			continue
		}
		img, l, err := i.borrow(ctx, string(info.ID))
		if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Conflict) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if why, err = i.unlike(img, d); err == nil && why == "" {
			return img, l, nil
		}
		l.release(ctx)
		if err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, errs.New(errs.NotFound, "its dependency %s is missing: %s; import it first", describeDependency(d), why)
}

// unlike says what keeps an image of the right name from being d; "" if nothing does.
// The label "layer" is not looked at: docker2aci writes the child's into the dependency, whose name has the right one.
func (i *Images) unlike(img *brig.Image, d brig.ACIDependency) (string, error) {
	switch {
	case d.ID != "" && img.ACI.ID == "":
		return "the ID of the image of this name is still being computed", nil
	case d.ID != "" && img.ACI.ID != d.ID:
		return "the image of this name is " + img.ACI.ID, nil
	}
	manifest, err := i.Blobs.Get(img.ACI.Manifest)
	if err != nil {
		return "", errs.Wrap(err, "appc manifest of image %s", shortDigest(img.ID))
	}
	info, err := i.ACIs.ACIInfo(manifest)
	if err != nil {
		return "", err
	}
	for _, k := range slices.Sorted(maps.Keys(d.Labels)) {
		if have, ok := info.Labels[k]; k != "layer" && (!ok || have != d.Labels[k]) {
			return "the image of this name has the label " + k + "=" + have, nil
		}
	}
	return "", nil
}

// describeDependency is name,label=value,… and the ID, as appc writes images in text.
func describeDependency(d brig.ACIDependency) string {
	var words []string
	if d.Name != "" {
		words = append(words, d.Name)
	}
	for _, k := range slices.Sorted(maps.Keys(d.Labels)) {
		words = append(words, k+"="+d.Labels[k])
	}
	if d.ID != "" {
		words = append(words, "imageID="+d.ID)
	}
	return strings.Join(words, ",")
}
