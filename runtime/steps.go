package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// Kinds of records that Steps owns. A step's key is its own; a directory's is the sha256 of its ID, in hex.
const (
	kindStep     = "step"
	kindCacheDir = "cachedir"
)

// flushPause is how long what has been learned of steps stays in memory alone.
const flushPause = 2 * time.Second

// Steps is what image builds stand on and leave behind: the trees in which they work, the steps that they have carried out, and the
// directories that their RUNs share. Each build has a session, which holds all that it uses; each step holds its chain, so that Images drops none
// that a step still needs.
//
// A step is known to other builds as soon as it is kept, and recorded a little later, together with others and after its chain has been made
// durable, or with the image that it is for. So a crash forgets steps of which no image came; their chains go with the next sweep.
//
// Locks: write is taken before mu, and mu before the locks of Images; mu is never held over I/O.
type Steps struct {
	i       *Images
	volumes VolumeData
	log     *slog.Logger

	cancel context.CancelFunc
	done   sync.WaitGroup
	wake   chan struct{} // has room for one

	write sync.Mutex // held while records and memory change together

	mu      sync.Mutex // guards the rest
	steps   map[string]*stepEntry
	dirs    map[string]*dirEntry // by key
	stale   map[staleKey]bool    // kinds and keys of what its record doesn't say yet
	grown   bool                 // there may be chains among them that are not durable
	changed chan struct{}        // closed and replaced when a directory has got free
}

// A staleKey names a record.
type staleKey struct{ kind, key string }

// A stepEntry is one step in memory.
type stepEntry struct {
	step  brig.Step
	lease *lease
	users int // sessions
}

// NewSteps loads all records. Like NewImages it comes before the sweep, for which the chains are held and CacheVolumes named. A step whose chain is
// gone is forgotten.
func NewSteps(ctx context.Context, i *Images, volumes VolumeData) (*Steps, error) {
	s := &Steps{
		i: i, volumes: volumes, log: i.log, wake: make(chan struct{}, 1), steps: map[string]*stepEntry{}, dirs: map[string]*dirEntry{},
		stale: map[staleKey]bool{}, changed: make(chan struct{}),
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	ctx, s.cancel = context.WithCancel(context.Background())
	s.done.Go(func() { s.run(ctx) })
	return s, nil
}

func (s *Steps) load(ctx context.Context) error {
	records, err := s.i.Records.List(ctx, kindStep)
	if err != nil {
		return errs.Wrap(err, "load steps of builds")
	}
	var lost []brig.Record
	for _, r := range records {
		var step brig.Step
		if err := json.Unmarshal(r.Value, &step); err != nil {
			return errs.Wrap(err, "load step %s", r.Key)
		}
		there, err := s.there(ctx, step.Chain)
		if err != nil {
			return err
		}
		if !there {
			lost = append(lost, brig.Record{Kind: kindStep, Key: r.Key})
			continue
		}
		s.steps[r.Key] = s.entry(step)
	}
	if len(lost) > 0 {
		s.log.Warn("forgetting steps of builds whose file systems are gone", "count", len(lost))
		if err := s.i.Records.Put(ctx, nil, lost); err != nil {
			return errs.Wrap(err, "forget steps of builds")
		}
	}
	return s.loadDirs(ctx)
}

// there reports whether a chain is in the store; "" always is.
func (s *Steps) there(ctx context.Context, chain brig.Digest) (bool, error) {
	if chain == "" {
		return true, nil
	}
	has, err := s.i.Layers.Has(ctx, chain)
	return has, errs.Wrap(err, "look for layer chain %s", chain)
}

// entry takes a hold on the step's chain. At run time the caller has one, so that this doesn't wait.
func (s *Steps) entry(step brig.Step) *stepEntry {
	l := s.i.lease()
	if step.Chain != "" {
		l.chain(step.Chain)
	}
	return &stepEntry{step: step, lease: l}
}

// Close ends the background work and records what is not recorded yet. No session may be open.
func (s *Steps) Close() error {
	s.cancel()
	s.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), dropLimit)
	defer cancel()
	return s.flush(ctx)
}

// run records, a little later, what has been learned.
func (s *Steps) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		if backOff(ctx, flushPause) != nil {
			return
		}
		if err := s.flush(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("steps of builds could not be recorded; it will be tried again", "error", err)
			s.stir()
		}
	}
}

// stir has what is stale recorded soon. It never waits.
func (s *Steps) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// flush makes the chains of steps durable, and what lies in the directories also, and then records what is stale.
func (s *Steps) flush(ctx context.Context, also ...string) error {
	s.write.Lock()
	defer s.write.Unlock()
	s.mu.Lock()
	stale, grown := s.stale, s.grown
	s.stale, s.grown = map[staleKey]bool{}, false
	var puts []brig.Record
	for k := range stale {
		if r, ok := s.recordOf(k); ok {
			puts = append(puts, r)
		}
	}
	s.mu.Unlock()
	if len(puts) == 0 && len(also) == 0 {
		return nil
	}
	slices.SortFunc(puts, func(a, b brig.Record) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key)) })
	var err error
	if grown || len(also) > 0 {
		err = s.i.Syncer.Sync(ctx, also...)
	}
	if err == nil && len(puts) > 0 {
		fault.Point("steps.synced")
		err = s.i.Records.Put(ctx, puts, nil)
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.grown = s.grown || grown
		for k := range stale {
			s.stale[k] = true
		}
		return errs.Wrap(err, "record steps of builds")
	}
	fault.Point("steps.recorded")
	return nil
}

// recordOf is the record of what memory has under a kind and key; ok is false if it has gone. mu is held.
func (s *Steps) recordOf(k staleKey) (r brig.Record, ok bool) {
	var v []byte
	switch k.kind {
	case kindStep:
		if e := s.steps[k.key]; e != nil {
			v, _ = json.Marshal(&e.step) // strings, numbers and times have no way to fail
		}
	case kindCacheDir:
		if e := s.dirs[k.key]; e != nil {
			v, _ = json.Marshal(&e.rec)
		}
	}
	return brig.Record{Kind: k.kind, Key: k.key, Value: v}, v != nil
}

// A StepSession is one build's hold on all that it uses. It may be used by several goroutines at once, but for End.
type StepSession struct {
	s *Steps

	viewing sync.Mutex // held while a chain is mounted to be read

	mu    sync.Mutex // guards the rest; taken before that of Steps
	lease *lease
	used  []*stepEntry
	bases map[brig.Digest]*brig.Image
	trees map[brig.RID]bool // not committed
	views map[brig.Digest]string
	dirs  map[*dirUse]bool
}

// Begin begins a session.
func (s *Steps) Begin(ctx context.Context) (*StepSession, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &StepSession{
		s: s, lease: s.i.lease(), bases: map[brig.Digest]*brig.Image{}, trees: map[brig.RID]bool{}, views: map[brig.Digest]string{}, dirs: map[*dirUse]bool{},
	}, nil
}

// Find returns the newest step with that key, and keeps its chain until the session ends. nil: there is none.
func (x *StepSession) Find(ctx context.Context, key string) (*brig.Step, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.s
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.steps[key]
	if e == nil {
		return nil, ctx.Err()
	}
	if there, err := s.there(ctx, e.step.Chain); err != nil || !there {
		return nil, err // lost on disk; the next start forgets it
	}
	if e.step.Chain != "" {
		x.lease.chain(e.step.Chain)
	}
	x.use(e)
	e.step.Used = time.Now().UTC()
	e.step.Count++
	s.stale[staleKey{kindStep, key}] = true
	step := e.step
	return &step, nil
}

// use keeps a step from being pruned until the session ends. Both locks are held.
func (x *StepSession) use(e *stepEntry) {
	e.users++
	x.used = append(x.used, e)
}

// Keep adds a step; it takes the place of one with the same key. The session must hold its chain.
func (x *StepSession) Keep(ctx context.Context, step brig.Step) error {
	if step.Key == "" {
		return errs.New(errs.Invalid, "a step of a build has no key")
	}
	if there, err := x.s.there(ctx, step.Chain); err != nil || !there {
		return cmp.Or(err, errs.New(errs.NotFound, "no such layer chain: %s", step.Chain))
	}
	step.Shared = false
	x.mu.Lock()
	s := x.s
	s.mu.Lock()
	old := s.steps[step.Key]
	e := s.entry(step)
	s.steps[step.Key] = e
	x.use(e)
	s.stale[staleKey{kindStep, step.Key}] = true
	s.grown = true
	s.mu.Unlock()
	x.mu.Unlock()
	s.stir()
	if old != nil {
		old.lease.release(ctx)
	}
	return nil
}

// History lists the steps of an image that was built here, from its base on, and keeps their chains until the session ends. Of another image it lists what
// its history tells, with no keys. NotFound: it isn't here.
func (x *StepSession) History(ctx context.Context, ref string) ([]brig.Step, error) {
	img, err := x.hold(ctx, ref, "")
	if err != nil {
		return nil, err
	}
	if len(img.Steps) > 0 {
		return slices.Clone(img.Steps), nil
	}
	config, err := x.s.i.Blobs.Get(img.ID)
	if err != nil {
		return nil, errs.Wrap(err, "config of image %s", shortDigest(img.ID))
	}
	doc, err := x.s.i.Converter.ImageConfig(config)
	if err != nil {
		return nil, err
	}
	var out []brig.Step
	var chain brig.Digest
	layers := img.Layers
	for _, h := range doc.History {
		step := brig.Step{Created: parseTime(h.Created), By: h.CreatedBy, Own: !h.Empty && len(layers) > 0}
		if step.Own {
			chain, step.Size, layers = layers[0].Chain, layers[0].Size, layers[1:]
		}
		step.Chain = chain
		out = append(out, step)
	}
	return out, nil
}

// hold finds an image and holds all that it needs until the session ends.
func (x *StepSession) hold(ctx context.Context, ref, platform string) (*brig.Image, error) {
	var img *brig.Image
	err := x.s.i.With(ctx, ref, platform, func(found *brig.Image) error {
		x.mu.Lock()
		defer x.mu.Unlock()
		img = found
		x.lease.image(found)
		x.bases[found.ID] = found
		return nil
	})
	return img, err
}

// End gives back all that the session holds, and removes the trees that were not committed.
func (x *StepSession) End(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropLimit)
	defer cancel()
	x.mu.Lock()
	dirs, trees := x.dirs, x.trees
	x.dirs, x.trees, x.views = map[*dirUse]bool{}, map[brig.RID]bool{}, map[brig.Digest]string{}
	used, l := x.used, x.lease
	x.used, x.lease = nil, x.s.i.lease()
	x.mu.Unlock()
	for u := range dirs {
		u.release()
	}
	var failed []error
	for rid := range trees {
		failed = append(failed, x.s.i.discard(ctx, rid))
	}
	if err := errors.Join(failed...); err != nil {
		x.s.log.Warn("trees of a build stay until the next sweep", "error", err)
	}
	x.s.mu.Lock()
	for _, e := range used {
		e.users--
	}
	stale := len(x.s.stale) > 0
	x.s.mu.Unlock()
	l.release(ctx)
	if stale {
		x.s.stir()
	}
	x.s.i.Stir()
}
