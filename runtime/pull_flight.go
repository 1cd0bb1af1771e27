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

// A flight brings one layer into the store: its compressed bytes into a blob, and, as they come, the tree on top of the layer beneath, which
// may be in flight too. All that want the same chain at the same time join one flight. It ends when it is done, has failed, or the
// last who joined has left.
type flight struct {
	layer  brig.Layer  // Size is set at the end
	below  *flight     // the flight of the layer beneath; nil if that is there
	parent brig.Digest // the chain beneath, "" for none
	src    source
	turn   ticket // to download
	room   ticket // to apply
	cancel context.CancelFunc
	lease  *lease // the flight's own

	joined int // guarded by Images.mu; once it is 0 again nobody may join

	done chan struct{} // closed when the flight has ended and err and layer.Size are set
	err  error

	mu      sync.Mutex
	last    brig.Progress // the newest status, for those who join later
	fetched bool          // "Download complete" has been said
	tellers []*passenger
}

// A source is where a layer's bytes come from.
type source struct {
	open  func(ctx context.Context, offset int64) (io.ReadCloser, error)
	slots *slots // how many at once
}

// A passenger is one who joined.
type passenger struct {
	begin  func(there bool)                          // called when it joins
	tell   func(status string, current, total int64) // must not wait
	failed chan<- error                              // has room; takes the flight's error
}

// tell passes a status on to all who joined.
func (f *flight) tell(status string, current, total int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if status == "Extracting" && !f.fetched {
		return // Docker's clients would jump between two bars
	}
	if status == "Download complete" {
		f.fetched = true
	}
	f.last = brig.Progress{Status: status, Current: current, Total: total}
	for _, p := range f.tellers {
		p.tell(status, current, total)
	}
}

// board adds a passenger and tells it where the flight stands. Images.mu is held.
func (f *flight) board(p *passenger) {
	f.joined++
	f.mu.Lock()
	defer f.mu.Unlock()
	p.begin(false)
	f.tellers = append(f.tellers, p)
	if f.last.Status != "" {
		p.tell(f.last.Status, f.last.Current, f.last.Total)
	}
}

// join returns the flight to the layer's chain, and starts it if there is none; nil means that the chain is there, and then layer is how it
// is known. l holds the layer's chain and blob, and comes to hold the blob of the flight joined.
func (i *Images) join(ctx context.Context, l *lease, layer *brig.Layer, parent brig.Digest, below *flight, src source, p *passenger) (*flight, error) {
	for {
		if there, err := i.isThere(ctx, l, layer); there || err != nil {
			return nil, err
		}
		i.mu.Lock()
		f := i.flights[layer.Chain]
		_, known := i.known[layer.Chain]
		switch {
		case f == nil && known: // it has just landed
			i.mu.Unlock()
		case f == nil:
			f = i.depart(*layer, parent, below, src, p)
			i.mu.Unlock()
			return f, nil
		case f.joined > 0:
			// The flight holds its blob, so this hold can't have to wait for mu.
			l.blob(f.layer.Blob.Digest)
			f.board(p)
			i.mu.Unlock()
			return f, nil
		default: // all have left it: wait for its end
			i.mu.Unlock()
			<-f.done
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// isThere reports whether a layer's chain is in the store with the bytes that it came from; then it sets *layer to that and l holds the bytes.
func (i *Images) isThere(ctx context.Context, l *lease, layer *brig.Layer) (bool, error) {
	i.mu.Lock()
	known, ok := i.known[layer.Chain]
	i.mu.Unlock()
	if !ok {
		return false, nil
	}
	l.blob(known.Blob.Digest)
	has, err := i.Layers.Has(ctx, layer.Chain)
	if err != nil {
		return false, errs.Wrap(err, "look for layer %s", layer.Chain)
	}
	if has && i.Blobs.Has(known.Blob.Digest) {
		*layer = known
		return true, nil
	}
	// Lost on disk, or removed with the image that had other bytes for it: get it again.
	i.mu.Lock()
	if i.known[layer.Chain] == known {
		delete(i.known, layer.Chain)
	}
	i.mu.Unlock()
	return false, nil
}

// depart starts a flight with its first passenger. mu is held; the chain and the blob are held by the caller, so the holds don't wait.
func (i *Images) depart(layer brig.Layer, parent brig.Digest, below *flight, src source, p *passenger) *flight {
	ctx, cancel := context.WithCancel(i.ctx)
	f := &flight{layer: layer, parent: parent, below: below, src: src, turn: src.slots.ticket(), room: i.applying.ticket(), cancel: cancel, lease: i.lease(), done: make(chan struct{})}
	f.lease.chain(layer.Chain)
	f.lease.blob(layer.Blob.Digest)
	f.board(p)
	i.flights[layer.Chain] = f
	i.flying.Go(func() { i.fly(ctx, f) })
	return f
}

// leave gives one passenger's places in flights back and waits for the end of those that have nobody left.
func (i *Images) leave(flights []*flight) {
	var ended []*flight
	i.mu.Lock()
	for _, f := range flights {
		if f.joined--; f.joined == 0 {
			f.cancel()
			ended = append(ended, f)
		}
	}
	i.mu.Unlock()
	for _, f := range ended {
		<-f.done
	}
}

func (i *Images) fly(ctx context.Context, f *flight) {
	size, err := i.bring(ctx, f)
	f.layer.Size = size
	i.mu.Lock()
	if err == nil {
		i.known[f.layer.Chain] = f.layer
	}
	delete(i.flights, f.layer.Chain)
	i.mu.Unlock()
	f.lease.release(ctx)
	f.err = err
	if err == nil {
		f.tell("Extracting", f.layer.Blob.Size, f.layer.Blob.Size) // in case that it was faster than the download
		f.tell("Pull complete", 0, 0)
	}
	close(f.done)
	f.cancel()
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, p := range f.tellers {
			select {
			case p.failed <- err:
			default:
			}
		}
	}
}

// bring downloads and applies at the same time; when one fails the other is stopped, and the error is the first one's.
func (i *Images) bring(ctx context.Context, f *flight) (size int64, err error) {
	defer i.applying.giveBack(f.room)
	d := f.layer.Blob
	if i.Blobs.Has(d.Digest) {
		f.src.slots.giveBack(f.turn)
		r, _, err := i.Blobs.Open(d.Digest)
		if err != nil {
			return 0, err
		}
		defer r.Close()
		f.tell("Download complete", 0, 0)
		return i.apply(ctx, f, r)
	}
	w, err := i.Blobs.Create(ctx, d.Digest, d.Size)
	if err != nil {
		f.src.slots.giveBack(f.turn)
		return 0, errs.Wrap(err, "store layer %s", d.Digest)
	}
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
	return size, err
}

// download fills w, resuming where a broken transfer ended.
func (i *Images) download(ctx context.Context, f *flight, w *blobs.Writer) error {
	defer f.src.slots.giveBack(f.turn)
	defer w.Abort()
	if !f.turn.ready() {
		f.tell("Waiting", 0, 0)
	}
	if err := f.turn.wait(ctx); err != nil {
		return err
	}
	d := f.layer.Blob
	m := &meter{tell: f.tell, status: "Downloading", size: d.Size}
	pause := i.Backoff
	for attempt := 1; ; attempt++ {
		err := fetch(ctx, f.src, d, w, m)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if attempt == maxAttempts || !worthRetrying(err) {
			return errs.Wrap(err, "download layer %s", d.Digest)
		}
		i.log.Debug("a download broke off", "layer", d.Digest, "attempt", attempt, "bytes", w.Size(), "error", err)
		f.tell(fmt.Sprintf("Retrying in %d second%s", max(1, int(pause.Seconds())), plural(pause)), 0, 0)
		if err := backOff(ctx, pause); err != nil {
			return err
		}
		pause *= 2
	}
	f.tell("Verifying Checksum", 0, 0)
	if _, err := w.Commit(); err != nil {
		return errs.Wrap(err, "filesystem layer verification failed for digest %s", d.Digest)
	}
	f.tell("Download complete", 0, 0)
	return nil
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

// fetch copies the bytes that are still missing. A failure to write is of a kind that is not tried again: it is the disk's.
func fetch(ctx context.Context, src source, d brig.Descriptor, w *blobs.Writer, m *meter) error {
	m.current = w.Size()
	if w.Size() == d.Size {
		return nil
	}
	body, err := src.open(ctx, w.Size())
	if err != nil {
		return err
	}
	defer body.Close()
	buf := make([]byte, 128<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, rerr := body.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			if errs.Is(err, errs.Invalid) {
				return err
			}
			return errs.As(errs.Forbidden, errs.Wrap(err, "write"))
		}
		if n > 0 {
			m.add(n)
		}
		switch {
		case rerr == io.EOF && w.Size() < d.Size:
			return fmt.Errorf("the registry sent %d of %d bytes: %w", w.Size(), d.Size, io.ErrUnexpectedEOF)
		case rerr == io.EOF:
			return nil
		case rerr != nil:
			return rerr
		}
	}
}

// apply decompresses and applies what r gives. It doesn't begin before its turn, which bounds the memory that flights use. Turns go by
// departure, and a layer beneath has always departed earlier, so a flight that holds its turn while it waits for that can't keep it from its own.
func (i *Images) apply(ctx context.Context, f *flight, r io.Reader) (size int64, err error) {
	if err := f.room.wait(ctx); err != nil {
		return 0, err
	}
	counted := meterReader{r, &meter{tell: f.tell, status: "Extracting", size: f.layer.Blob.Size}}
	tar, err := i.Archives.Decompress(ctx, counted, f.layer.Blob.MediaType)
	if err != nil {
		return 0, errs.Wrap(err, "decompress layer %s", f.layer.Blob.Digest)
	}
	applied, err := i.Layers.Apply(ctx, f.parent, f.layer.Chain, f.layer.Diff, tar, f.beneath())
	cerr := tar.Close()
	if err == nil {
		err = cerr
	}
	return applied.Size, errs.Wrap(err, "apply layer %s", f.layer.Blob.Digest)
}

// beneath returns what waits for the layer beneath; nil if that is there.
func (f *flight) beneath() func(context.Context) error {
	if f.below == nil {
		return nil
	}
	return func(ctx context.Context) error {
		select {
		case <-f.below.done:
			return f.below.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
