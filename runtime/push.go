package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// maxUploads is how many layers of an image are uploaded at once; Docker's default.
const maxUploads = 5

// Push sends a tag, or all tags of a repository, to its registry, and reports as dockerd does. An image that is here just as it was pulled
// is pushed with its exact manifest, so that its digest stays; any other gets one that is made from its layers.
// NotFound: nothing here has the name. The registry's refusals come in its own words.
func (i *Images) Push(ctx context.Context, r brig.PushRequest, progress func(brig.Progress)) error {
	ctx, cancel := i.joinContext(ctx)
	defer cancel()
	rep := newReporter(progress)
	defer rep.close()
	named, err := tagRef(r.Name, r.Tag)
	if err != nil {
		return err
	}
	rep.add(brig.Progress{Status: "The push refers to repository [" + named.Name() + "]"})
	tags := i.tagsOf(named.Name())
	if len(tags) == 0 {
		return errs.New(errs.NotFound, "An image does not exist locally with the tag: %s", reference.FamiliarName(named))
	}
	if r.Tag != "" {
		if !slices.Contains(tags, named.String()) {
			return errs.New(errs.NotFound, "tag does not exist: %s", reference.FamiliarString(named))
		}
		tags = []string{named.String()}
	}
	for _, ref := range tags {
		if err := i.pushable(ref, r.Platform); err != nil {
			return err
		}
		if err := i.pushTag(ctx, ref, r.Auth, rep); err != nil {
			return err
		}
	}
	return nil
}

// pushable reports NotFound in dockerd's words if the image is not for the platform that is asked for, "" for any.
func (i *Images) pushable(ref, platform string) error {
	i.mu.Lock()
	e := i.images[i.refs[ref]]
	if e == nil {
		i.mu.Unlock()
		return nil
	}
	img := e.img
	i.mu.Unlock()
	return i.checkPlatform(img, familiar(ref), platform)
}

// tagsOf returns the normalized tags of a repository, sorted.
func (i *Images) tagsOf(repository string) (out []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range slices.Sorted(maps.Keys(i.refs)) {
		if refName(r) == repository && !isDigestRef(r) {
			out = append(out, r)
		}
	}
	return out
}

func (i *Images) pushTag(ctx context.Context, ref string, auth brig.Auth, rep *reporter) (err error) {
	img, l, err := i.borrow(ctx, ref)
	if err != nil {
		return err
	}
	defer l.release(ctx)
	if img, err = i.withTars(ctx, l, img); err != nil {
		return err
	}
	out, err := i.toArchive(img)
	if err != nil {
		return err
	}
	p := &pushing{images: i, repository: refName(ref), auth: auth, rep: rep, slots: newSlots(maxUploads)}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.layers(ctx, &out); err != nil {
		return err
	}
	manifest, mediaType, err := p.manifest(ctx, &out)
	if err != nil {
		return err
	}
	if err := i.Pusher.PutManifest(ctx, ref, mediaType, manifest, auth); err != nil {
		return err
	}
	done := &brig.Pushed{Tag: ref[len(refName(ref))+1:], Digest: brig.DigestOf(manifest), Size: int64(len(manifest))}
	rep.add(brig.Progress{Status: fmt.Sprintf("%s: digest: %s size: %d", done.Tag, done.Digest, done.Size)})
	rep.add(brig.Progress{Pushed: done})
	if err := i.nameDigest(ctx, img.ID, refName(ref)+"@"+string(done.Digest)); err != nil {
		return err
	}
	i.event("push", img, familiar(ref), familiar(refName(ref)))
	return nil
}

// nameDigest lets an image have a digest's reference too, unless it has been removed meanwhile.
func (i *Images) nameDigest(ctx context.Context, id brig.Digest, ref string) error {
	i.write.Lock()
	defer i.write.Unlock()
	i.mu.Lock()
	skip := i.images[id] == nil || i.images[id].removing || i.refs[ref] == id
	i.mu.Unlock()
	if skip {
		return nil
	}
	if err := i.Records.Put(ctx, []brig.Record{refPut(ref, id, nil)}, nil); err != nil {
		return errs.Wrap(err, "record the digest of a pushed image")
	}
	i.mu.Lock()
	i.refs[ref] = id
	delete(i.others, ref)
	i.mu.Unlock()
	return nil
}

// A pushing is one image on its way to a repository.
type pushing struct {
	images     *Images
	repository string
	auth       brig.Auth
	rep        *reporter
	slots      *slots
	blobs      []brig.Descriptor // of the layers as they are pushed, from the lowest up

	mu      sync.Mutex
	cleanup []func() error // of spooled layers
}

func (p *pushing) close() error {
	var all error
	for _, f := range p.cleanup {
		all = errors.Join(all, f())
	}
	return all
}

// layers uploads what the repository lacks, several at once. The first failure ends the others, and is the error.
func (p *pushing) layers(ctx context.Context, a *brig.ArchiveImage) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	p.blobs = make([]brig.Descriptor, len(a.Layers))
	first := map[brig.Digest]int{} // a layer may be in an image several times
	for n, x := range slices.Backward(a.Layers) {
		if _, ok := first[x.Diff]; !ok {
			first[x.Diff] = n
			p.rep.say(shortDigest(x.Diff), "Preparing")
		}
	}
	var all sync.WaitGroup
	for n, x := range slices.Backward(a.Layers) { // dockerd too begins at the top
		if first[x.Diff] != n {
			continue
		}
		turn := p.slots.ticket()
		if !turn.ready() {
			p.rep.say(shortDigest(x.Diff), "Waiting")
		}
		all.Go(func() {
			defer p.slots.giveBack(turn)
			err := turn.wait(ctx)
			if err != nil {
				return
			}
			if p.blobs[n], err = p.layer(ctx, &a.Layers[n], a.Manifest != nil); err != nil {
				fail(err)
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for n, x := range a.Layers {
		p.blobs[n] = p.blobs[first[x.Diff]]
	}
	return nil
}

// layer brings one layer into the repository and says as what. asIs keeps its bytes, else they are compressed if they aren't.
func (p *pushing) layer(ctx context.Context, x *brig.ArchiveLayer, asIs bool) (brig.Descriptor, error) {
	id := shortDigest(x.Diff)
	blob, open := x.Blob, x.Open
	if !asIs {
		var err error
		if blob, open, err = p.compressed(ctx, x); err != nil {
			return blob, errs.Wrap(err, "layer %s", id)
		}
	}
	return blob, p.images.persist(ctx, func(said string) { p.rep.say(id, said) }, func() error { return p.upload(ctx, x, blob, open) })
}

// maxUploadTries is how often a layer's upload is tried; dockerd's number.
const maxUploadTries = 5

// persist tries again, later and later, what failed but may work then; say tells of each pause.
func (i *Images) persist(ctx context.Context, say func(string), try func() error) error {
	pause := i.Backoff
	for n := 1; ; n++ {
		err := try()
		if err == nil || ctx.Err() != nil || n == maxUploadTries || !worthRetrying(err) {
			return err
		}
		i.log.Debug("an upload broke off", "try", n, "error", err)
		say(fmt.Sprintf("Retrying in %d second%s", max(1, int(pause.Seconds())), plural(pause)))
		if err := backOff(ctx, pause); err != nil {
			return err
		}
		pause *= 2
	}
}

// upload brings one layer's bytes into the repository, unless they are there.
func (p *pushing) upload(ctx context.Context, x *brig.ArchiveLayer, blob brig.Descriptor, open func() (io.ReadCloser, error)) error {
	id := shortDigest(x.Diff)
	there, err := p.images.Pusher.HasBlob(ctx, p.repository, blob.Digest, p.auth)
	if err != nil {
		return err
	}
	if there {
		p.rep.say(id, "Layer already exists")
		return nil
	}
	from := p.images.mountFrom(p.repository, x.Blob.Digest, blob.Digest)
	m := &meter{status: "Pushing", size: blob.Size, tell: func(status string, current, total int64) {
		p.rep.add(brig.Progress{ID: id, Status: status, Current: current, Total: total})
	}}
	mounted, err := p.images.Pusher.PutBlob(ctx, p.repository, from, blob, func() (io.ReadCloser, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		m.current = 0
		return struct {
			io.Reader
			io.Closer
		}{meterReader{r, m}, r}, nil
	}, p.auth)
	switch {
	case err != nil:
		return err
	case mounted:
		named, _ := reference.ParseNormalizedNamed(from) // it is one of ours, so it is valid
		p.rep.say(id, "Mounted from "+reference.Path(named))
	default:
		p.rep.say(id, "Pushed")
	}
	return nil
}

// mountFrom finds another repository of the same registry that an image with the layer was pulled from or pushed to; "" if there is none.
// Bytes that were compressed anew are in no other repository that is known.
func (i *Images) mountFrom(repository string, kept, pushed brig.Digest) string {
	if kept != pushed {
		return ""
	}
	domain, _, _ := strings.Cut(repository, "/")
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, ref := range slices.Sorted(maps.Keys(i.refs)) {
		name := refName(ref)
		e := i.images[i.refs[ref]]
		if !isDigestRef(ref) || name == repository || !strings.HasPrefix(name, domain+"/") || e == nil {
			continue
		}
		if slices.ContainsFunc(e.img.Layers, func(x brig.Layer) bool { return x.Blob.Digest == kept }) {
			return name
		}
	}
	return ""
}
