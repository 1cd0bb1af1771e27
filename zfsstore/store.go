// Package zfsstore keeps image chains, container root file systems and volumes, copy-on-write where the host can.
//
// One Store serves the seams RootFS, Layers and VolumeData of runtime; behind it stands one of three drivers: zfs (the real
// thing), overlay (Linux) and copy (the last resort). The Store holds the index, the locks and the rules of who may remove what;
// a driver only knows how to make, mount and destroy.
//
// What is on disk commits itself: a chain exists once its directory has been renamed into place, or its snapshot exists with its
// properties. Whatever a crash leaves between is not in the index, and Sweep removes it.
//
//	<root>/driver          the name of the driver that made the store
//	<root>/l/<rid>/        a layer: diff/ and layer.json          (overlay, copy)
//	<root>/c/<rid>/        a container: upper/ and work/, or root/, and parent, a link to its chain
//	<root>/v/<rid>/        a volume (zfs: its mount point)
//	<root>/w/<rid>/        unfinished work and what is being deleted
//	<root>/mnt/<rid>/      mount points of containers (overlay, zfs)
//	<root>/vm/<rid>/       mount points of volumes that have no data of their own
//	<root>/e/              an empty directory
package zfsstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/tarfs"
)

// maxLayers is what overlayfs stacks at most (fs/overlayfs/params.h, OVL_MAX_STACK). All drivers keep to it, so that an image that
// one host can run runs on every other.
const maxLayers = 500

// cleanupTime bounds the steps that take back a failed operation.
const cleanupTime = 30 * time.Second

// layer is one committed layer of a chain.
type layer struct {
	Chain, Parent brig.Digest
	Diff          brig.Digest // "" if it was made of a root file system
	Size          int64       // bytes of regular files that the layer brings
	RID           brig.RID    // its directory or dataset
	Snap          int         `json:",omitempty"` // zfs: number of its snapshot
}

// work is a layer being made.
type work struct {
	rid   brig.RID
	dir   string        // where the archive is extracted to
	opts  tarfs.Options // how
	close func() error  // releases what opts.Lower opened; may be nil
	snap  int           // zfs: number of the snapshot to take
	ds    string        // zfs: the dataset that grows
	base  string        // zfs: the snapshot that ds grows from in place; "" if ds is new
	taken bool          // zfs: the snapshot may have been taken, by us
}

// layerDriver makes and destroys layers.
type layerDriver interface {
	// begin makes what a layer is extracted to. A driver that must see the parent asks for it here, one that need not leaves it to later.
	begin(ctx context.Context, rid brig.RID, parent *parent) (*work, error)
	// commit is called when the parent is there. What it made is durable once unsynced's file system has been synced.
	commit(ctx context.Context, w *work, l layer) (layer, error)
	abort(ctx context.Context, w *work) error
	drop(ctx context.Context, l layer) error
	// unsynced is a directory on the file system where committed layers wait to be synced; "" if commit does so itself.
	unsynced() string
}

// rootDriver makes and destroys container root file systems.
type rootDriver interface {
	clone(ctx context.Context, id brig.RID, lineage []layer, size int64) error
	// mount shows it on the host; of a fleeting one nothing need survive a crash.
	mount(ctx context.Context, id brig.RID, lineage []layer, fleeting bool) (string, error)
	unmount(ctx context.Context, id brig.RID) error
	changes(ctx context.Context, id brig.RID, lineage []layer) ([]brig.Change, error)
	remove(ctx context.Context, id brig.RID) error
}

// houseDriver is the rest: start-up, volumes, housekeeping.
type houseDriver interface {
	describe() (name string, status [][2]string)
	load(ctx context.Context) (layers []layer, roots map[brig.RID]brig.Digest, err error)
	makeVolume(ctx context.Context, id brig.RID, size int64) (string, error)
	removeVolume(ctx context.Context, id brig.RID) error
	// sweep removes all that keep doesn't know.
	sweep(ctx context.Context, keep keep) error
}

// lateDriver deals with what could not be deleted when it was removed, and with what nobody knows.
type lateDriver interface {
	// stored looks at the disk; scrapLayer deletes what stands for layers in rid, whole or not.
	stored(ctx context.Context) (stored, error)
	scrapLayer(ctx context.Context, rid brig.RID) error
	// reap tries again, and counts what is left. It spares what is active.
	reap(ctx context.Context, active func(brig.RID) bool) (left int, err error)
}

type driver interface {
	layerDriver
	treeDriver
	houseDriver
	lateDriver
	close() error
}

// keep says what a sweep must spare.
type keep struct {
	layers  map[brig.RID]bool
	roots   map[brig.RID]bool
	volumes map[brig.RID]bool
	active  func(brig.RID) bool // being made or removed right now
}

// Store is safe for use by many goroutines.
type Store struct {
	log *slog.Logger
	d   driver
	dir string // its root directory

	mu       sync.Mutex // guards what follows; never held during I/O
	chains   map[brig.Digest]layer
	roots    map[brig.RID]brig.Digest // containers, and the chain each stands on
	fleeting map[brig.RID]bool        // those of PrepareTree
	pins     map[brig.Digest]int      // chains that something is being built on
	active   map[brig.RID]int
	locks    map[string]*keyLock
}

func newStore(ctx context.Context, root string, d driver, log *slog.Logger) (*Store, error) {
	layers, roots, err := d.load(ctx)
	if err != nil {
		return nil, err
	}
	s := &Store{
		log: log, d: d, dir: root, chains: map[brig.Digest]layer{}, roots: roots, fleeting: map[brig.RID]bool{},
		pins: map[brig.Digest]int{}, active: map[brig.RID]int{}, locks: map[string]*keyLock{},
	}
	for more := true; more; { // parents first, in whatever order they came; an orphan stays out
		more = false
		for _, l := range layers {
			_, have := s.chains[l.Chain]
			_, parent := s.chains[l.Parent]
			if !have && (l.Parent == "" || parent) {
				s.chains[l.Chain], more = l, true
			}
		}
	}
	return s, nil
}

// Close releases the store's own mounts where no container uses them. Containers' mounts stay.
func (s *Store) Close() error { return s.d.close() }

// Driver returns the driver's name and what docker info shows of it.
func (s *Store) Driver() (name string, status [][2]string) { return s.d.describe() }

// keyLock is one lock of a set; users counts holders and waiters.
type keyLock struct {
	ch    chan struct{}
	users int
}

// lock waits for the lock named key; ctx ends the wait.
func (s *Store) lock(ctx context.Context, key string) (unlock func(), err error) {
	s.mu.Lock()
	k := s.locks[key]
	if k == nil {
		k = &keyLock{ch: make(chan struct{}, 1)}
		s.locks[key] = k
	}
	k.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(s.locks, key)
		}
	}
	select {
	case k.ch <- struct{}{}:
		return func() { <-k.ch; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// lockRoot locks a container or volume, whose name comes from outside.
func (s *Store) lockRoot(ctx context.Context, id brig.RID) (unlock func(), err error) {
	if !id.Valid() {
		return nil, errs.New(errs.Invalid, "invalid dataset name %q", id)
	}
	un, err := s.lock(ctx, "root "+string(id))
	if err != nil {
		return nil, err
	}
	done := s.begin(id)
	return func() { done(); un() }, nil
}

// begin marks rid as worked on, so that a sweep spares it.
func (s *Store) begin(rid brig.RID) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beginLocked(rid)
}

func (s *Store) beginLocked(rid brig.RID) (done func()) {
	s.active[rid]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.active[rid]--; s.active[rid] == 0 {
			delete(s.active, rid)
		}
	}
}

// lineage returns a chain and its ancestors, top first. The caller holds mu.
func (s *Store) lineage(chain brig.Digest) ([]layer, error) {
	var out []layer
	for c := chain; c != ""; {
		l, ok := s.chains[c]
		if !ok {
			return nil, errs.New(errs.NotFound, "no such layer chain: %s", c)
		}
		out = append(out, l)
		c = l.Parent
	}
	return out, nil
}

// pin returns chain's lineage and keeps it from being dropped until unpin is called. "" is the empty lineage.
func (s *Store) pin(chain brig.Digest) (lin []layer, unpin func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lin, err = s.lineage(chain); err != nil {
		return nil, nil, err
	}
	s.pins[chain]++
	return lin, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.pins[chain]--; s.pins[chain] == 0 {
			delete(s.pins, chain)
		}
	}, nil
}

func (s *Store) find(chain brig.Digest) (layer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.chains[chain]
	return l, ok
}

// Has reports whether the chain is committed.
func (s *Store) Has(_ context.Context, chain brig.Digest) (bool, error) {
	_, ok := s.find(chain)
	return ok, nil
}

// A parent is what a layer is made on. It is for one layer, and one goroutine at a time.
type parent struct {
	chain brig.Digest // "": the layer is the lowest
	wait  func(context.Context) ([]layer, error)
	lin   []layer
	known bool
}

// lineage returns the parent and its ancestors, top first, when they are there.
func (p *parent) lineage(ctx context.Context) (_ []layer, err error) {
	if !p.known {
		if p.lin, err = p.wait(ctx); err != nil {
			return nil, err
		}
		p.known = true
	}
	return p.lin, nil
}

// Apply reads the uncompressed layer tar to its end and commits it on top of parent as chain, if its sha256 is diff; otherwise it
// returns Invalid and leaves nothing. A chain that is there is returned as it is, with tar unread; concurrent calls for one chain
// wait for the first. NotFound: no such parent.
//
// If below isn't nil, parent need not be there yet, and below waits until it is: it returns an error if that will never be, and is called
// once, by the overlay driver only when it can't do without. The chain is committed after its parent. It is durable after a Sync.
func (s *Store) Apply(ctx context.Context, on, chain, diff brig.Digest, tar io.Reader, below func(context.Context) error) (brig.Applied, error) {
	if _, err := brig.ParseDigest(string(diff)); err != nil {
		return brig.Applied{}, err
	}
	if chain != brig.ChainID(on, diff) {
		return brig.Applied{}, errs.New(errs.Invalid, "chain %s is not layer %s on %q", chain, diff, on)
	}
	unlock, err := s.lock(ctx, "chain "+string(chain))
	if err != nil {
		return brig.Applied{}, err
	}
	defer unlock()
	if l, ok := s.find(chain); ok {
		return brig.Applied{Diff: l.Diff, Size: l.Size}, nil
	}
	p, unpin := s.parent(on, below)
	defer unpin()
	if below == nil { // so it must be there, and stay
		if _, err := p.lineage(ctx); err != nil {
			return brig.Applied{}, err
		}
	}
	rid := brig.NewRID()
	defer s.begin(rid)()
	l, err := s.apply(ctx, rid, p, layer{Chain: chain, Parent: on, Diff: diff}, tar)
	if err != nil {
		return brig.Applied{}, err
	}
	s.mu.Lock()
	s.chains[chain] = l
	s.mu.Unlock()
	return brig.Applied{Diff: l.Diff, Size: l.Size}, nil
}

// parent is the chain that a layer is to be made on; from when it has been found until release it can't be dropped.
func (s *Store) parent(chain brig.Digest, below func(context.Context) error) (p *parent, release func()) {
	unpin := func() {}
	wait := func(ctx context.Context) ([]layer, error) {
		if below != nil {
			if err := below(ctx); err != nil {
				return nil, err
			}
		}
		lin, un, err := s.pin(chain)
		if err != nil {
			return nil, err
		}
		unpin = un
		if len(lin) >= maxLayers {
			return nil, errs.New(errs.Invalid, "image has more than %d layers, which is what overlayfs can stack", maxLayers)
		}
		return lin, nil
	}
	return &parent{chain: chain, wait: wait}, func() { unpin() }
}

func (s *Store) apply(ctx context.Context, rid brig.RID, p *parent, l layer, tar io.Reader) (_ layer, err error) {
	w, err := s.d.begin(ctx, rid, p)
	if err != nil {
		return layer{}, err
	}
	fault.Point("layer.begun")
	stats, err := fill(ctx, w, l.Diff, tar)
	if l.Size = stats.Bytes; err == nil {
		fault.Point("layer.filled")
		_, err = p.lineage(ctx)
	}
	if err == nil {
		l, err = s.d.commit(ctx, w, l)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		if e := s.d.abort(ctx, w); e != nil {
			s.log.Warn("unfinished layer could not be removed; the next sweep will", "rid", rid, "err", e)
		}
		return layer{}, err
	}
	if stats.Unkept > 0 {
		s.log.Warn("extended attributes of a layer's files can't be kept by the file system or system; the layer as it was pulled has them",
			"layer", l.Diff, "attributes", stats.Unkept)
	}
	return l, nil
}

// Sync makes all committed layers durable, and what lies in the directories also. One call for many is much faster than one for each:
// each file system is written once.
func (s *Store) Sync(ctx context.Context, also ...string) error {
	if dir := s.d.unsynced(); dir != "" {
		also = append(also, dir)
	}
	synced := map[uint64]bool{}
	for _, dir := range also {
		if err := ctx.Err(); err != nil {
			return err
		}
		dev, err := deviceOf(dir)
		if err == nil && !synced[dev] {
			err = syncAll(dir)
		}
		if err != nil {
			return errs.Wrap(err, "sync %s", dir)
		}
		synced[dev] = true
	}
	fault.Point("store.synced")
	return nil
}

// fill extracts tar and checks its digest.
func fill(ctx context.Context, w *work, diff brig.Digest, tar io.Reader) (tarfs.Stats, error) {
	h := sha256.New()
	stats, err := tarfs.Extract(ctx, w.dir, io.TeeReader(tar, h), w.opts)
	if w.close != nil {
		err = errors.Join(err, w.close())
	}
	if err != nil {
		return tarfs.Stats{}, err
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != string(diff) {
		return tarfs.Stats{}, errs.New(errs.Invalid, "layer has the digest %s, want %s", got, diff)
	}
	return stats, nil
}

// inUse says what keeps chain from being dropped. The caller holds mu.
func (s *Store) inUse(chain brig.Digest) error {
	if s.pins[chain] > 0 {
		return errs.New(errs.Conflict, "layer chain %s is being built on", chain)
	}
	for id, c := range s.roots {
		if c == chain {
			return errs.New(errs.Conflict, "container dataset %s stands on layer chain %s", id, chain)
		}
	}
	for _, l := range s.chains {
		if l.Parent == chain {
			return errs.New(errs.Conflict, "layer chain %s stands on %s", l.Chain, chain)
		}
	}
	return nil
}

// Drop deletes a chain's top layer; one that is not there is dropped already. Conflict: something stands on it.
func (s *Store) Drop(ctx context.Context, chain brig.Digest) error {
	unlock, err := s.lock(ctx, "chain "+string(chain))
	if err != nil {
		return err
	}
	defer unlock()
	s.mu.Lock()
	l, ok := s.chains[chain]
	if !ok {
		s.mu.Unlock()
		return nil
	}
	if err := s.inUse(chain); err != nil {
		s.mu.Unlock()
		return err
	}
	delete(s.chains, chain)
	done := s.beginLocked(l.RID)
	s.mu.Unlock()
	defer done()
	if err := s.d.drop(ctx, l); err != nil {
		s.mu.Lock()
		s.chains[chain] = l
		s.mu.Unlock()
		return errs.Wrap(err, "drop layer chain %s", chain)
	}
	return nil
}

func noQuota(driver string) error {
	return errs.New(errs.NotImplemented, "the %s storage driver can't hold a size limit", driver)
}

func tooBusy(path string, err error) error { return fmt.Errorf("unmount %s: %w", path, err) }
