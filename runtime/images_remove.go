package runtime

import (
	"context"
	"fmt"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// A removal is one docker rmi: what it will take away, decided before anything is.
type removal struct {
	img   *brig.Image
	untag []string // normalized references, in the order of the answer
	whole bool     // the image itself goes too
	quiet bool     // untag[1:] are digests that go with their tag: no events
}

// ImageRemove takes a name away, or the image with all its names; which of the two, and when it refuses (Conflict) is dockerd's rule:
//
// By name: the name goes, and with the last tag of a repository its digests. The image goes with its last name. Without force a name that is
// the last of a used image stays; with force the name goes, and the image if no container uses it, or only stopped ones.
//
// By ID: the image goes with all names, if they are one tag and its digests, or with force. It stays if a container uses it; force
// overrides stopped ones only. Images have no parents here, so noprune changes nothing.
func (i *Images) ImageRemove(ctx context.Context, ref string, force, _ bool) ([]brig.ImageDeleted, error) {
	i.mu.Lock()
	e, err := i.seize(ctx, ref)
	i.mu.Unlock()
	if err != nil {
		return nil, err
	}
	users := i.getUsers()
	i.write.Lock()
	r, err := i.plan(e, ref, force, users)
	if err == nil {
		err = i.forget(ctx, r)
	}
	i.write.Unlock()
	i.mu.Lock()
	e.removing = false
	i.notify()
	i.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return i.finish(ctx, e, r), nil
}

// seize finds an image and waits until nobody pins it; then nobody can, until removing is false again. mu is held.
func (i *Images) seize(ctx context.Context, ref string) (*imageEntry, error) {
	var mine *imageEntry
	for {
		e, _, err := i.find(ref)
		if mine != nil && (err != nil || e != mine) {
			mine.removing = false
			i.notify()
			mine = nil
		}
		if err != nil {
			return nil, err
		}
		if e.removing && mine == nil {
			if err := i.wait(ctx); err != nil {
				return nil, err
			}
			continue
		}
		mine = e
		e.removing = true
		if e.pins == 0 {
			return e, nil
		}
		if err := i.wait(ctx); err != nil {
			e.removing = false
			i.notify()
			return nil, err
		}
	}
}

// plan decides what goes. write is held, and e seized.
func (i *Images) plan(e *imageEntry, ref string, force bool, users []ImageUser) (*removal, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	again, named, err := i.find(ref)
	if err != nil {
		return nil, err
	}
	if again != e {
		return nil, errs.New(errs.Conflict, "conflict: unable to delete %s - the name has been given to another image meanwhile", ref)
	}
	refs := i.refs.of(e.img.ID)
	running, stopped := usersOf(users, e.img.ID)
	r := &removal{img: e.img}
	if named == "" {
		r.untag, r.whole = refs, true
		return r, refusal(e.img.ID, running, stopped, isSingle(refs), force)
	}
	used := first(running, stopped)
	if !force && isSingle(refs) && used != nil {
		return nil, errs.New(errs.Conflict, "conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
			ref, used.ID.Short(), shortDigest(e.img.ID))
	}
	left := 0
	r.untag, left = untagged(refs, named)
	r.quiet = true
	// A used image whose last name is taken away by force stays without a name, unless force can take it too.
	r.whole = left == 0 && running == nil && (force || stopped == nil)
	return r, nil
}

// untagged returns which of refs go with named, and how many stay.
func untagged(refs []string, named string) (gone []string, left int) {
	gone = []string{named}
	lastTag := !isDigestRef(named)
	for _, r := range refs {
		if r != named && !isDigestRef(r) && refName(r) == refName(named) {
			lastTag = false
		}
	}
	for _, r := range refs {
		switch {
		case r == named:
		case lastTag && isDigestRef(r) && refName(r) == refName(named):
			gone = append(gone, r)
		default:
			left++
		}
	}
	return gone, left
}

// refusal is the Conflict that stands against removing an image by its ID, or nil.
func refusal(id brig.Digest, running, stopped *ImageUser, single, force bool) error {
	no := func(how, why string) error {
		return errs.New(errs.Conflict, "conflict: unable to delete %s (%s) - %s", shortDigest(id), how, why)
	}
	switch {
	case running != nil:
		return no("cannot be forced", fmt.Sprintf("image is being used by running container %s", running.ID.Short()))
	case force:
		return nil
	case !single:
		return no("must be forced", "image is referenced in multiple repositories")
	case stopped != nil:
		return no("must be forced", fmt.Sprintf("image is being used by stopped container %s", stopped.ID.Short()))
	}
	return nil
}

// usersOf returns one running and one stopped user of an image, nil for none.
func usersOf(users []ImageUser, id brig.Digest) (running, stopped *ImageUser) {
	for k := range users {
		switch u := &users[k]; {
		case u.Image != id:
		case u.Running && running == nil:
			running = u
		case !u.Running && stopped == nil:
			stopped = u
		}
	}
	return running, stopped
}

func first(a, b *ImageUser) *ImageUser {
	if a != nil {
		return a
	}
	return b
}

// forget deletes the records, then what memory has. write is held.
func (i *Images) forget(ctx context.Context, r *removal) error {
	var gone []brig.Record
	for _, ref := range r.untag {
		gone = append(gone, brig.Record{Kind: kindRef, Key: ref})
	}
	if r.whole {
		gone = append(gone, brig.Record{Kind: kindImage, Key: r.img.ID.Hex()})
	}
	if err := i.Records.Put(ctx, nil, gone); err != nil {
		return errs.Wrap(err, "remove image %s", shortDigest(r.img.ID))
	}
	fault.Point("image.forgotten")
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, ref := range r.untag {
		delete(i.refs, ref)
		delete(i.others, ref)
	}
	if r.whole {
		delete(i.images, r.img.ID)
	}
	return nil
}

// finish drops what the image needed, publishes the events, and writes the answer. The records are gone: nothing can fail any more, and
// what can't be dropped now is dropped later.
func (i *Images) finish(ctx context.Context, e *imageEntry, r *removal) (out []brig.ImageDeleted) {
	for n, ref := range r.untag {
		if n == 0 || !r.quiet {
			i.event("untag", r.img, string(r.img.ID), string(r.img.ID))
		}
		out = append(out, brig.ImageDeleted{Untagged: familiar(ref)})
	}
	if !r.whole {
		return out
	}
	i.aci.forget(r.img.ID)
	chains := e.lease.release(ctx)
	// dockerd has no labels here either: it looks for them in an image that is gone.
	i.event("delete", &brig.Image{}, string(r.img.ID), string(r.img.ID))
	out = append(out, brig.ImageDeleted{Deleted: string(r.img.ID)})
	for _, c := range chains {
		out = append(out, brig.ImageDeleted{Deleted: string(c)})
	}
	i.Stir()
	return out
}
