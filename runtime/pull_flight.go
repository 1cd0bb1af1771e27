package runtime

import (
	"context"
	"io"
	"sync"

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
	span  func(ctx context.Context, from, to int64) (body io.ReadCloser, end int64, err error) // as Registry's; nil: the source is near
	slots *slots                                                                               // how many at once
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
	switch same := known.Diff == layer.Diff; {
	case has && same && i.hasBytes(known):
		*layer = known
		return true, nil
	case has && !same && i.hasBytes(*layer): // built here, with its files' times cut otherwise
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
	i.lull.begin()
	i.flying.Go(func() {
		defer i.lull.end()
		i.fly(ctx, f)
	})
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
