package runtime

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// maxReapPause is the longest time between two attempts to drop what is busy.
const maxReapPause = time.Minute

// A reaper is the goroutine that drops late.
type reaper struct {
	once sync.Once
	done sync.WaitGroup
	wake chan struct{} // has room for one
}

func newReaper() *reaper { return &reaper{wake: make(chan struct{}, 1)} }

func (r *reaper) start(run func()) { r.once.Do(func() { r.done.Go(run) }) }

// Stir has what nobody needs dropped soon, in the background. It never waits.
func (i *Images) Stir() {
	select {
	case i.reaper.wake <- struct{}{}:
	default:
	}
}

// reapLate drops what has come to be unneeded whenever Stir is called. What is busy is tried again by itself, after a pause that doubles;
// what a container stands on waits for the next Stir, which comes with the container's removal.
func (i *Images) reapLate(ctx context.Context) {
	pause := i.Backoff
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-i.reaper.wake:
		case <-again.C:
		}
		again.Stop()
		if i.Reap(ctx) {
			pause = i.Backoff
			continue
		}
		again.Reset(pause)
		pause = min(2*pause, maxReapPause)
	}
}

// Reap drops what nobody needs any more and could not be dropped before. It reports whether the rest, if any, waits for nothing but containers.
func (i *Images) Reap(ctx context.Context) (done bool) {
	var failed []error
	if i.Leftovers != nil && !i.KeepAll {
		for _, c := range i.Leftovers.Unused(i.chains.all()) {
			_, err := i.chains.dropUnheld(ctx, c.Chain)
			failed = append(failed, err)
		}
	}
	failed = append(failed, i.chains.retry(ctx), i.blobs.retry(ctx))
	left := 0
	if i.Leftovers != nil {
		var err error
		left, err = i.Leftovers.Reap(ctx)
		failed = append(failed, err)
	}
	for _, err := range failed {
		if onlyConflicts(err) {
			continue
		}
		i.log.Debug("what nobody needs can't be dropped yet", "error", err)
		left++
	}
	return left == 0
}

// onlyConflicts reports whether err, which may be several joined, is of nothing but things that are in use.
func onlyConflicts(err error) bool {
	if err == nil {
		return true
	}
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) {
		return errs.Is(err, errs.Conflict)
	}
	for _, e := range many.Unwrap() {
		if !onlyConflicts(e) {
			return false
		}
	}
	return true
}

// Collect removes the chains and blobs that nobody needs and the unfinished downloads that nobody goes on with, now; with dry it only counts them. Nothing that an image, a container, or a
// pull, load or export under way needs is touched: all these hold what they need before it is made.
func (i *Images) Collect(ctx context.Context, dry bool) (*brig.Collected, error) {
	out := &brig.Collected{DryRun: dry}
	var failed []error
	note := func(err error) {
		if err != nil {
			out.Waiting++
			out.Notes = append(out.Notes, err.Error())
			i.Stir()
		}
	}
	if i.Leftovers != nil {
		for _, c := range i.Leftovers.Unused(i.chains.all()) {
			dropped, err := true, error(nil)
			if !dry {
				dropped, err = i.chains.dropUnheld(ctx, c.Chain)
			}
			if note(err); dropped {
				out.Layers++
				out.LayerBytes += c.Size
			}
		}
		if !dry {
			left, err := i.Leftovers.Reap(ctx)
			out.Waiting += left
			failed = append(failed, err)
		}
	}
	list, err := i.Blobs.List()
	failed = append(failed, err)
	for _, b := range list {
		if i.blobs.held(b.Digest) {
			continue
		}
		dropped, err := true, error(nil)
		if !dry {
			dropped, err = i.blobs.dropUnheld(ctx, b.Digest)
		}
		if note(err); dropped {
			out.Blobs++
			out.BlobBytes += b.Size
		}
	}
	partials := i.Blobs.Partials
	if !dry {
		partials = func() (int, int64, error) { return i.Blobs.DropPartials(0) }
	}
	out.Parts, out.PartBytes, err = partials()
	failed = append(failed, err)
	return out, errs.Wrap(errors.Join(failed...), "collect garbage")
}
