package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/brigd/brig/internal/blobs"
	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// How a large layer is downloaded.
const (
	rangesFrom = 32 << 20 // bytes that must be missing for ranges at once
	rangeSize  = 8 << 20  // bytes
	maxRanges  = 3        // at once for one layer
)

// bring brings a layer, and once more from nothing if bytes that an earlier download left turn out to be wrong.
func (i *Images) bring(ctx context.Context, f *flight) (size int64, err error) {
	defer i.applying.giveBack(f.room)
	d := f.layer.Blob.Digest
	size, resumed, err := i.bringOnce(ctx, f)
	if !errs.Is(err, errs.Invalid) {
		return size, err
	}
	if derr := i.Blobs.DropPartial(d); derr != nil || !resumed || ctx.Err() != nil {
		return size, errors.Join(err, derr)
	}
	i.log.Warn("what an earlier download left is wrong; beginning again", "layer", d, "error", err)
	f.turn = f.src.slots.ticket()
	size, _, err = i.bringOnce(ctx, f)
	return size, err
}

// bringOnce downloads and applies at the same time; when one fails the other is stopped, and the error is the first one's. resumed: part of
// the download was there.
func (i *Images) bringOnce(ctx context.Context, f *flight) (size int64, resumed bool, err error) {
	d := f.layer.Blob
	if i.Blobs.Has(d.Digest) {
		f.src.slots.giveBack(f.turn)
		r, _, err := i.Blobs.Open(d.Digest)
		if err != nil {
			return 0, false, err
		}
		defer r.Close()
		f.tell("Download complete", 0, 0)
		size, err = i.apply(ctx, f, r)
		return size, false, err
	}
	create := i.Blobs.Resume
	if f.src.span == nil {
		create = i.Blobs.Create
	}
	w, err := create(ctx, d.Digest, d.Size)
	if err != nil {
		f.src.slots.giveBack(f.turn)
		return 0, false, errs.Wrap(err, "store layer %s", d.Digest)
	}
	resumed = w.Have() > 0
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	downloaded := make(chan error, 1)
	go func() {
		err := i.download(ctx, f, w)
		if err != nil {
			cancel()
		}
		downloaded <- err
	}()
	r := w.Follow(ctx)
	size, err = i.apply(ctx, f, r)
	if err != nil {
		cancel()
	}
	if derr := <-downloaded; derr != nil && (err == nil || !errors.Is(derr, context.Canceled)) {
		err = derr
	}
	r.Close()
	return size, resumed, err
}

// A download fills one blob.
type download struct {
	*Images
	f *flight
	w *blobs.Writer
	d brig.Descriptor

	mu    sync.Mutex
	meter meter
}

// download fills w, going on where a broken transfer ended.
func (i *Images) download(ctx context.Context, f *flight, w *blobs.Writer) error {
	defer f.src.slots.giveBack(f.turn)
	defer w.Abort()
	if !f.turn.ready() {
		f.tell("Waiting", 0, 0)
	}
	if err := f.turn.wait(ctx); err != nil {
		return err
	}
	x := &download{Images: i, f: f, w: w, d: f.layer.Blob, meter: meter{tell: f.tell, status: "Downloading", size: f.layer.Blob.Size}}
	if err := w.Verify(ctx); err != nil {
		return err
	}
	err := x.fetchAll(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errs.Wrap(err, "download layer %s", x.d.Digest)
	}
	f.tell("Verifying Checksum", 0, 0)
	if _, err := w.Commit(); err != nil {
		return errs.Wrap(err, "filesystem layer verification failed for digest %s", x.d.Digest)
	}
	f.tell("Download complete", 0, 0)
	return nil
}

// fetchAll gets what is missing: ranges at once if that is much and the registry does ranges, else one stream.
func (x *download) fetchAll(ctx context.Context) error {
	x.count(0)
	if x.f.src.span != nil && x.d.Size-x.w.Have() >= rangesFrom {
		err := x.fetchRanges(ctx)
		if !errs.Is(err, errs.NotImplemented) {
			return err
		}
	}
	return x.retrying(ctx, func() error { return x.fetch(ctx) })
}

// count reports n further bytes.
func (x *download) count(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.meter.current = x.w.Have() - int64(n)
	if n > 0 {
		x.meter.add(n)
	}
}

// retrying tries again what may work a little later, with growing pauses.
func (x *download) retrying(ctx context.Context, once func() error) error {
	pause := x.Backoff
	for attempt := 1; ; attempt++ {
		err := once()
		if err == nil || ctx.Err() != nil || attempt == maxAttempts || !worthRetrying(err) {
			return err
		}
		x.log.Debug("a download broke off", "layer", x.d.Digest, "attempt", attempt, "bytes", x.w.Have(), "error", err)
		x.f.tell(fmt.Sprintf("Retrying in %d second%s", max(1, int(pause.Seconds())), plural(pause)), 0, 0)
		if err := backOff(ctx, pause); err != nil {
			return err
		}
		pause *= 2
	}
}

func plural(d time.Duration) string {
	if d >= 2*time.Second {
		return "s"
	}
	return ""
}

func backOff(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// worthRetrying reports whether the same request may work a little later.
func worthRetrying(err error) bool {
	k := errs.KindOf(err)
	return k == errs.Internal || k == errs.Unavailable
}

// fetch copies the bytes that are still missing after the first ones, in one stream.
func (x *download) fetch(ctx context.Context) error {
	from := x.w.Size()
	if from == x.d.Size {
		return nil
	}
	body, err := x.f.src.open(ctx, from)
	if err != nil {
		return err
	}
	return x.copy(ctx, body, &from, x.d.Size)
}

// fetchRanges gets the missing ranges, several at once and the first ones first: whoever follows waits for those. NotImplemented: the
// registry doesn't do ranges.
func (x *download) fetchRanges(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	todo := make(chan [2]int64)
	failed := make(chan error, maxRanges)
	var workers sync.WaitGroup
	for range maxRanges {
		workers.Go(func() {
			for r := range todo {
				if err := x.fetchRange(ctx, r[0], r[1]); err != nil {
					failed <- err
					cancel()
					return
				}
			}
		})
	}
	missing := x.w.Missing(rangeSize)
	err := x.fetchRange(ctx, missing[0][0], missing[0][1]) // alone: it shows what the registry does
	for n := 1; n < len(missing) && err == nil && x.w.Have() < x.d.Size; n++ {
		select {
		case todo <- missing[n]:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		cancel()
	}
	close(todo)
	workers.Wait()
	select {
	case err = <-failed: // the first: it has ended the others
	default:
	}
	return err
}

// fetchRange gets one range, or all that follows too if the registry sends that.
func (x *download) fetchRange(ctx context.Context, from, to int64) error {
	return x.retrying(ctx, func() error {
		if from >= to {
			return nil
		}
		body, end, err := x.f.src.span(ctx, from, to)
		if err != nil {
			return err
		}
		return x.copy(ctx, body, &from, end)
	})
}

// copy writes body, which it closes, at *from up to end, and moves *from on. A failure to write is of a kind that is not tried again: it
// is the disk's.
func (x *download) copy(ctx context.Context, body io.ReadCloser, from *int64, end int64) error {
	defer body.Close()
	buf := make([]byte, 128<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, rerr := body.Read(buf)
		if n > 0 {
			if _, err := x.w.WriteAt(buf[:n], *from); err != nil {
				if errs.Is(err, errs.Invalid) {
					return err
				}
				return errs.As(errs.Forbidden, errs.Wrap(err, "write"))
			}
			*from += int64(n)
			x.count(n)
			x.Observer.Downloaded(n)
		}
		switch {
		case rerr == io.EOF && *from < end:
			return fmt.Errorf("the registry sent bytes up to %d of %d: %w", *from, end, io.ErrUnexpectedEOF)
		case rerr == io.EOF:
			return nil
		case rerr != nil:
			return rerr
		}
	}
}
