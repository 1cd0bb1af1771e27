package runtime

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/undo"
)

// A lull says when no layer is on its way into the store. Its zero value is one.
type lull struct {
	mu    sync.Mutex
	busy  int
	quiet chan struct{} // closed when busy is 0 again
}

func (l *lull) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy++; l.busy == 1 {
		l.quiet = make(chan struct{})
	}
}

func (l *lull) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy--; l.busy == 0 {
		close(l.quiet)
	}
}

// wait returns when nothing is on its way, or ctx ends.
func (l *lull) wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		busy, quiet := l.busy > 0, l.quiet
		l.mu.Unlock()
		if !busy {
			return ctx.Err()
		}
		select {
		case <-quiet:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// polite is a writer that lets layers pass first.
type polite struct {
	ctx  context.Context
	lull *lull
	w    io.Writer
}

// Write implements io.Writer.
func (p polite) Write(b []byte) (int, error) {
	if err := p.lull.wait(p.ctx); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}

// An aciWorker computes ACI IDs, one at a time, in the background: hashing a whole image would double the time of a pull. While layers are
// being pulled or loaded it rests.
type aciWorker struct {
	i    *Images
	done sync.WaitGroup

	mu      sync.Mutex
	started bool
	closed  bool
	queue   []brig.Digest
	wake    chan struct{} // has room for one
	current brig.Digest   // "": none
	cancel  context.CancelFunc
	idle    chan struct{} // closed when current has ended
}

func newACIWorker(i *Images) *aciWorker { return &aciWorker{i: i, wake: make(chan struct{}, 1)} }

// start begins the work on what is queued, once.
func (w *aciWorker) start(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.started && !w.closed {
		w.started = true
		w.done.Go(func() { w.run(ctx) })
	}
}

// close waits for the worker, whose context has been ended.
func (w *aciWorker) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.done.Wait()
}

// add queues an image. It does not start the work.
func (w *aciWorker) add(id brig.Digest) {
	w.mu.Lock()
	if !slices.Contains(w.queue, id) {
		w.queue = append(w.queue, id)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// forget takes an image that has been removed out of the queue; if it is being worked on, forget stops that and waits.
func (w *aciWorker) forget(id brig.Digest) {
	w.mu.Lock()
	w.queue = slices.DeleteFunc(w.queue, func(d brig.Digest) bool { return d == id })
	var idle chan struct{}
	if w.current == id {
		w.cancel()
		idle = w.idle
	}
	w.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

func (w *aciWorker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		for ctx.Err() == nil && w.step(ctx) {
		}
	}
}

// step works on the next image; false: there is none.
func (w *aciWorker) step(ctx context.Context) bool {
	w.mu.Lock()
	if len(w.queue) == 0 {
		w.mu.Unlock()
		return false
	}
	id := w.queue[0]
	w.queue = w.queue[1:]
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.current, w.cancel, w.idle = id, cancel, make(chan struct{})
	w.mu.Unlock()
	err := w.i.lull.wait(ctx)
	if err == nil {
		err = w.i.computeACI(ctx, id, func(h io.Writer) io.Writer { return polite{ctx, &w.i.lull, h} })
	}
	if err != nil && ctx.Err() == nil && !errs.Is(err, errs.NotFound) {
		w.i.log.Warn("the ACI ID stays unknown until the next start", "image", id, "error", err)
	}
	w.mu.Lock()
	close(w.idle)
	w.current = ""
	w.mu.Unlock()
	return true
}

// computeACI finds an image's ACI ID and records it. through is what the ACI's bytes go through.
func (i *Images) computeACI(ctx context.Context, id brig.Digest, through func(io.Writer) io.Writer) error {
	img, l, err := i.borrow(ctx, string(id))
	if err != nil {
		return err
	}
	defer l.release(ctx)
	if img.ACI.ID != "" {
		return nil
	}
	h := sha512.New()
	if err := i.writeACI(ctx, img, through(h)); err != nil {
		return err
	}
	if err := i.recordACI(ctx, id, "sha512-"+hex.EncodeToString(h.Sum(nil))); err != nil {
		return err
	}
	if i.Identified != nil {
		i.Identified(id)
	}
	return nil
}

func (i *Images) recordACI(ctx context.Context, id brig.Digest, aciID string) error {
	i.write.Lock()
	defer i.write.Unlock()
	i.mu.Lock()
	e := i.images[id]
	i.mu.Unlock()
	if e == nil {
		return nil
	}
	img := *e.img
	img.ACI.ID = aciID
	r, err := imagePut(&img)
	if err != nil {
		return err
	}
	if err := i.Records.Put(ctx, []brig.Record{r}, nil); err != nil {
		return err
	}
	i.mu.Lock()
	e.img = &img
	i.mu.Unlock()
	return nil
}

// writeACI writes the image's flat ACI. The caller holds a lease.
func (i *Images) writeACI(ctx context.Context, img *brig.Image, w io.Writer) error {
	manifest, err := i.Blobs.Get(img.ACI.Manifest)
	if err != nil {
		return errs.Wrap(err, "appc manifest of image %s", shortDigest(img.ID))
	}
	return i.withTree(ctx, img, func(root string) error {
		return errs.Wrap(i.Converter.WriteACI(ctx, w, manifest, root), "write the ACI of image %s", shortDigest(img.ID))
	})
}

// withTree calls use with the root directory of a temporary clone of the image. The caller holds a lease.
func (i *Images) withTree(ctx context.Context, img *brig.Image, use func(root string) error) error {
	return i.withClone(ctx, img, func(t brig.Tree) error { return use(t.Path) })
}

// withClone calls use with a temporary clone of the image, which is mounted. The caller holds a lease.
func (i *Images) withClone(ctx context.Context, img *brig.Image, use func(brig.Tree) error) (err error) {
	var u undo.Stack
	rid := brig.NewRID()
	i.mu.Lock()
	i.temporary[rid] = true
	i.mu.Unlock()
	defer func() { // also where all went well
		var e error
		u.Run(ctx, &e)
		if e != nil {
			i.log.Warn("a temporary clone stays until the next start", "image", img.ID, "error", e)
		}
	}()
	u.Push("forget the temporary clone", func(context.Context) error {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.temporary, rid)
		return nil
	})
	u.Push("remove the temporary clone", func(ctx context.Context) error { return i.RootFS.Remove(ctx, rid) })
	if err := i.RootFS.Prepare(ctx, rid, img.Chain(), 0); err != nil {
		return errs.Wrap(err, "clone image %s", shortDigest(img.ID))
	}
	root, err := i.RootFS.Mount(ctx, rid)
	if err != nil {
		return errs.Wrap(err, "mount image %s", shortDigest(img.ID))
	}
	return use(brig.Tree{ID: rid, Path: root, Parent: img.Chain()})
}

// ExportACI writes the image as a flat, uncompressed ACI, whose sha512 is the image's ACI ID.
func (i *Images) ExportACI(ctx context.Context, ref string, w io.Writer) error {
	img, l, err := i.borrow(ctx, ref)
	if err != nil {
		return err
	}
	defer l.release(ctx)
	return i.writeACI(ctx, img, w)
}

// ImageBlob returns the exact bytes of an image's config (kind "config") or of its appc manifest ("aci").
func (i *Images) ImageBlob(ctx context.Context, ref, kind string) ([]byte, error) {
	img, l, err := i.borrow(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer l.release(ctx)
	switch kind {
	case "config":
		return i.Blobs.Get(img.ID)
	case "aci":
		return i.Blobs.Get(img.ACI.Manifest)
	}
	return nil, errs.New(errs.Invalid, "no such document of an image: %q", kind)
}

// ImageHistory returns an image's history, newest first. An entry that made a layer has its size.
func (i *Images) ImageHistory(ctx context.Context, ref string) ([]brig.History, error) {
	config, err := i.ImageBlob(ctx, ref, "config")
	if err != nil {
		return nil, err
	}
	doc, err := i.Converter.ImageConfig(config)
	if err != nil {
		return nil, err
	}
	info, err := i.ImageGet(ctx, string(brig.DigestOf(config)))
	if err != nil {
		return nil, err
	}
	out, layer := []brig.History{}, 0
	for _, h := range doc.History {
		line := brig.History{ID: "<missing>", Created: parseTime(h.Created), CreatedBy: h.CreatedBy, Comment: h.Comment}
		if !h.Empty {
			if layer >= len(info.Layers) {
				return nil, errs.As(errs.Internal, errors.New("too many non-empty layers in History section"))
			}
			line.Size = info.Layers[layer].Size
			layer++
		}
		out = append(out, line)
	}
	slices.Reverse(out)
	if len(out) > 0 {
		out[0].ID, out[0].Tags = string(info.ID), info.Tags
	}
	return out, nil
}
