package runtime

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/discovery"
	"github.com/brigd/brig/internal/errs"
)

// Bounds on what one import may bring.
const (
	maxACIFetch     = 64 << 30 // bytes of one ACI as it is downloaded
	maxACISignature = 1 << 20  // bytes
	maxACIDepth     = 16       // dependencies of dependencies
	maxACIFetches   = 64       // ACIs in all
)

// An aciQuest is one import with all that it brings along.
type aciQuest struct {
	i        *Images
	rep      *reporter
	insecure bool
	discover bool
	path     []string // the images whose dependencies are being brought, outermost first
	fetches  int
}

// An aciInput is one ACI on its way in.
type aciInput struct {
	what      string // names it in errors
	body      io.Reader
	signature []byte        // nil: none
	given     bool          // a client sends it
	want      *brig.ACIName // what it must be; nil: anything
	id        string        // its ACI ID must be this; "": any
}

// signatureURL is where the signature of an ACI's URL is: beside it.
func signatureURL(aci string) string {
	u, err := url.Parse(aci)
	if err != nil {
		return aci
	}
	u.Path += ".asc"
	if u.RawPath != "" {
		u.RawPath += ".asc"
	}
	return u.String()
}

// byName finds an ACI by its name and labels, and brings it.
func (q *aciQuest) byName(ctx context.Context, n brig.ACIName, id string) (*brig.ACIImported, error) {
	q.rep.say(n.Name, "Discovering")
	endpoints, err := q.i.Web.Locate(ctx, n, q.insecure)
	if err != nil {
		return nil, err
	}
	var tried []error
	for _, e := range endpoints {
		got, err := q.fetch(ctx, e, &n, id)
		if !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Unavailable) {
			return got, err
		}
		tried = append(tried, err)
	}
	return nil, errs.As(errs.KindOf(tried[0]), errors.Join(tried...))
}

// fetch downloads an ACI's signature and the ACI, and takes it in.
func (q *aciQuest) fetch(ctx context.Context, e brig.ACIEndpoint, want *brig.ACIName, id string) (*brig.ACIImported, error) {
	if q.fetches++; q.fetches > maxACIFetches {
		return nil, errs.New(errs.Invalid, "more than %d ACIs would have to be downloaded", maxACIFetches)
	}
	signature, err := q.signature(ctx, e.Signature)
	if err != nil {
		return nil, errs.Wrap(err, "signature of %s", e.ACI)
	}
	body, size, err := q.i.Web.Open(ctx, e.ACI, q.insecure, maxACIFetch)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if signature == nil && q.i.UnsignedACIs != "all" {
		return nil, errs.New(errs.Forbidden, "%s has no signature at %s, and this brigd takes no unsigned ACIs from the web", e.ACI, e.Signature)
	}
	m := &meter{size: size, status: "Downloading", tell: func(status string, current, total int64) {
		q.rep.add(brig.Progress{ID: e.ACI, Status: status, Current: current, Total: total})
	}}
	q.rep.say(e.ACI, "Downloading")
	var r io.Reader = body
	if size > 0 {
		r = meterReader{body, m}
	}
	return q.take(ctx, aciInput{what: e.ACI, body: r, signature: signature, want: want, id: id})
}

// signature downloads a detached signature; nil if there is none.
func (q *aciQuest) signature(ctx context.Context, u string) ([]byte, error) {
	body, _, err := q.i.Web.Open(ctx, u, q.insecure, maxACISignature)
	if errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if b == nil {
		b = []byte{} // there, but empty
	}
	return b, err
}

// take verifies, reads and installs one ACI.
func (q *aciQuest) take(ctx context.Context, in aciInput) (_ *brig.ACIImported, err error) {
	signers := func(string) ([]brig.Signer, error) { return nil, nil }
	if in.signature != nil {
		var closeSpool func() error
		if in.body, signers, closeSpool, err = q.verified(ctx, in); err != nil {
			return nil, errs.Wrap(err, "%s", in.what)
		}
		defer func() { err = errors.Join(err, closeSpool()) }()
	} else if q.i.UnsignedACIs != "all" && (q.i.UnsignedACIs != "files" || !in.given) {
		return nil, errs.New(errs.Forbidden, "%s is not signed, and this brigd takes no unsigned ACIs (the setting unsigned-acis)", in.what)
	}
	a, err := q.i.ACIs.ReadACI(ctx, in.body, q.i.Spool)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	who, err := signers(a.Name)
	if err != nil {
		return nil, errs.Wrap(err, "%s", in.what)
	}
	if err := in.check(a); err != nil {
		return nil, errs.Wrap(err, "%s", in.what)
	}
	got, err := q.install(ctx, a)
	if err != nil {
		return nil, err
	}
	got.Signers = who
	return got, nil
}

// verified copies the ACI to a nameless file, hashing on the way, and gives that file if somebody who is trusted signed the bytes. So
// no byte of a stranger's reaches a decompressor. signers asks again, for the name that the ACI turns out to have.
func (q *aciQuest) verified(ctx context.Context, in aciInput) (_ io.Reader, signers func(string) ([]brig.Signer, error), closeSpool func() error, err error) {
	v, err := q.i.Keys.Verify(in.body, in.signature)
	if err != nil {
		return nil, nil, nil, err
	}
	f, err := os.CreateTemp(q.i.Spool, "signed-")
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, nil, nil, err
	}
	if _, err := io.Copy(f, ctxReader{ctx, v}); err != nil {
		return nil, nil, nil, err
	}
	if _, err := v.Signers(""); err != nil {
		return nil, nil, nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, nil, nil, err
	}
	return f, v.Signers, f.Close, nil
}

// check wants the ACI that was asked for (discovery.md, "Validation"): what was given must be there; what was filled in for want of a
// better, os and arch, must not be another.
func (in *aciInput) check(a *brig.ACIArchive) error {
	if in.id != "" && a.ID != in.id {
		return errs.New(errs.Invalid, "it is %s, not %s", a.ID, in.id)
	}
	if in.want == nil {
		return nil
	}
	if a.Name != in.want.Name {
		return errs.New(errs.Invalid, "it is the ACI %s, not %s", a.Name, in.want.Name)
	}
	for _, k := range slices.Sorted(maps.Keys(in.want.Labels)) {
		if have, ok := a.Labels[k]; k != "layer" && (!ok || have != in.want.Labels[k]) {
			return errs.New(errs.Invalid, "it has the label %s=%s, not %s", k, have, in.want.Labels[k])
		}
	}
	for _, k := range []string{"os", "arch"} {
		if have, ok := a.Labels[k]; ok && have != discovery.Defaults(*in.want).Labels[k] {
			return errs.New(errs.Invalid, "it is for %s=%s, which was not asked for", k, have)
		}
	}
	return nil
}

// dependency finds the image that satisfies d of the ACI called parent, and holds it; if it isn't here, it is brought, if that is wanted.
func (q *aciQuest) dependency(ctx context.Context, parent string, d brig.ACIDependency) (*brig.Image, *lease, error) {
	img, l, err := q.i.dependency(ctx, d)
	if !errs.Is(err, errs.NotFound) || !q.discover {
		return img, l, err
	}
	words := describeDependency(d)
	switch {
	case slices.Contains(q.path, words):
		return nil, nil, errs.New(errs.Invalid, "it depends on itself: %s", strings.Join(append(q.path, words), " needs "))
	case len(q.path) == maxACIDepth:
		return nil, nil, errs.New(errs.Invalid, "dependencies are nested more than %d deep", maxACIDepth)
	}
	q.path = append(q.path, words)
	defer func() { q.path = q.path[:len(q.path)-1] }()
	labels := maps.Clone(d.Labels)
	delete(labels, "layer")
	if _, ferr := q.byName(ctx, brig.ACIName{Name: d.Name, Labels: labels}, d.ID); ferr != nil {
		return nil, nil, errs.As(errs.KindOf(ferr), errs.Wrap(errors.Join(err, ferr), "dependency %s", d.Name))
	}
	return q.i.dependency(ctx, d)
}
