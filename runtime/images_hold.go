package runtime

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/fault"
)

// A keeper counts who needs each of some things that are named by digest (chains, or blobs), and drops one when the last lets go. So
// a failed pull, a removed image and a finished export clean up the same way, and whatever is shared stays.
type keeper struct {
	drop   func(context.Context, brig.Digest) error
	failed func() // called after a release whose drop failed, if set; it must not wait

	mu       sync.Mutex
	n        map[brig.Digest]int
	dropping map[brig.Digest]chan struct{} // closed when the drop has ended
	stuck    []brig.Digest                 // not needed, but their drop failed; in the order of trying
}

func newKeeper(drop func(context.Context, brig.Digest) error) *keeper {
	return &keeper{drop: drop, n: map[brig.Digest]int{}, dropping: map[brig.Digest]chan struct{}{}}
}

// hold keeps d from being dropped. It waits for a drop that is under way.
func (k *keeper) hold(d brig.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settle(d)
	k.n[d]++
}

// release takes one hold back and drops d if it was the last. dropped is false if others hold it or the drop failed; then it is
// tried again by retry.
func (k *keeper) release(ctx context.Context, d brig.Digest) (dropped bool, err error) {
	k.mu.Lock()
	if k.n[d]--; k.n[d] > 0 {
		k.mu.Unlock()
		return false, nil
	}
	delete(k.n, d)
	dropped, err = k.dropLocked(ctx, d)
	if err != nil && k.failed != nil {
		k.failed()
	}
	return dropped, err
}

// dropLocked is called with mu held, and returns with it free.
func (k *keeper) dropLocked(ctx context.Context, d brig.Digest) (bool, error) {
	c := make(chan struct{})
	k.dropping[d] = c
	k.mu.Unlock()
	err := k.drop(ctx, d)
	fault.Point("unneeded.dropped")
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.dropping, d)
	close(c)
	k.stuck = slices.DeleteFunc(k.stuck, func(x brig.Digest) bool { return x == d })
	if err != nil {
		k.stuck = append(k.stuck, d)
	}
	return err == nil, err
}

// settle waits for a drop of d that is under way. mu is held before and after.
func (k *keeper) settle(d brig.Digest) {
	for k.dropping[d] != nil {
		c := k.dropping[d]
		k.mu.Unlock()
		<-c
		k.mu.Lock()
	}
}

// dropUnheld drops d unless somebody holds it. It may be something that never was held, or is dropped already. That it failed is told to the caller alone:
// the reaper, which failed wakes, would wake itself for ever while a container stands on d.
func (k *keeper) dropUnheld(ctx context.Context, d brig.Digest) (dropped bool, err error) {
	k.mu.Lock()
	if k.settle(d); k.n[d] > 0 {
		k.mu.Unlock()
		return false, nil
	}
	return k.dropLocked(ctx, d)
}

// retry drops again what could not be dropped before and is still not needed.
func (k *keeper) retry(ctx context.Context) (err error) {
	k.mu.Lock()
	todo := slices.Clone(k.stuck)
	k.mu.Unlock()
	for _, d := range todo {
		k.mu.Lock()
		still := slices.Contains(k.stuck, d)
		k.mu.Unlock()
		if still {
			_, derr := k.dropUnheld(ctx, d)
			err = errors.Join(err, derr)
		}
	}
	return err
}

// held reports whether anyone holds d.
func (k *keeper) held(d brig.Digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.n[d] > 0
}

// all returns what is held, sorted.
func (k *keeper) all() []brig.Digest {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []brig.Digest
	for d := range k.n {
		out = append(out, d)
	}
	slices.Sort(out)
	return out
}

// dropLimit bounds the dropping of one lease.
const dropLimit = 2 * time.Minute

// A lease is a set of holds that are given back together. It is for one goroutine.
type lease struct {
	i      *Images
	chains []brig.Digest // from the lowest up
	blobs  []brig.Digest
}

func (i *Images) lease() *lease { return &lease{i: i} }

func (l *lease) chain(d brig.Digest) {
	l.i.chains.hold(d)
	l.chains = append(l.chains, d)
}

func (l *lease) blob(d brig.Digest) {
	if d != "" {
		l.i.blobs.hold(d)
		l.blobs = append(l.blobs, d)
	}
}

// image holds all that an image's record names.
func (l *lease) image(img *brig.Image) {
	for _, x := range img.Layers {
		l.chain(x.Chain)
		l.blob(x.Blob.Digest)
	}
	for _, d := range []brig.Digest{img.ID, img.Manifest, img.ACI.Manifest} {
		l.blob(d)
	}
}

// release gives everything back, the highest chain first, and returns the chains that are gone now. Failures are logged and tried again later.
// It goes on though ctx has ended: what nobody needs must not stay because a client went away.
func (l *lease) release(ctx context.Context) (gone []brig.Digest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropLimit)
	defer cancel()
	for _, d := range slices.Backward(l.chains) {
		dropped, err := l.i.chains.release(ctx, d)
		if err != nil {
			l.i.log.Warn("a layer stays until it can be dropped", "chain", d, "error", err)
		}
		if dropped {
			gone = append(gone, d)
		}
	}
	for _, d := range l.blobs {
		if _, err := l.i.blobs.release(ctx, d); err != nil {
			l.i.log.Warn("a blob stays until it can be removed", "blob", d, "error", err)
		}
	}
	l.chains, l.blobs = nil, nil
	return gone
}
