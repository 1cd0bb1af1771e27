package build

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Archives reads compressed archives.
type Archives interface {
	// Decompress returns the uncompressed bytes of r, which are r's own if it isn't compressed.
	Decompress(ctx context.Context, r io.Reader, mediaType string) (io.ReadCloser, error)
}

// Config is what a Builder works with.
type Config struct {
	Workshop Workshop
	Runner   Runner
	Archives Archives
	Host     brig.Platform
	HTTP     *http.Client // of ADD with a URL; nil: http.DefaultClient
	Temp     string       // directory for what is fetched, which goes with the build; "": the system's
	Log      *slog.Logger // nil: none
	Steps    int          // that one build carries out at a time, if its stages don't depend on each other; 0: 3
}

// A Builder builds images. It is safe for concurrent use: builds that want the same step at the same time share one.
type Builder struct {
	c       Config
	flights flights // of steps, by key
	caches  flights // private cache directories in use, by ID
}

// New returns a Builder.
func New(c Config) *Builder {
	if c.HTTP == nil {
		c.HTTP = http.DefaultClient
	}
	if c.Steps == 0 {
		c.Steps = 3
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Builder{c: c}
}

// A run is one build.
type run struct {
	*Builder
	req    brig.BuildRequest
	s      Session
	p      *plan
	ignore *ignorer
	target brig.Platform // of images that don't say another one
	temp   string
	out    *report
	slots  chan struct{}
	past   []cacheSource

	wg  sync.WaitGroup
	ctx context.Context // of all stages

	mu     sync.Mutex
	stages map[int]*stage
	cancel map[int]context.CancelFunc // of those that have begun
	failed int                        // the first that has failed; len(p.stages) if none has
}

// Build makes the image that a request asks for, and returns its ID. report is called with what is to be said, by one goroutine at a time and in the order of
// the Dockerfile; not at all if the request or the Dockerfile is wrong, which is Invalid. A RUN that fails gives a *brig.RunFailed. What ends ctx ends
// the build at once, with an error of the kind Canceled; nothing of it is left then but the steps that were done.
func (b *Builder) Build(ctx context.Context, req brig.BuildRequest, say func(brig.BuildLine)) (id brig.Digest, err error) {
	tags, err := readTags(req.Tags)
	if err != nil {
		return "", err
	}
	r := &run{Builder: b, req: req, target: b.c.Host, stages: map[int]*stage{}, cancel: map[int]context.CancelFunc{}, slots: make(chan struct{}, b.c.Steps)}
	if req.Platform != "" {
		if r.target, err = brig.ReadPlatform(req.Platform, b.c.Host); err != nil {
			return "", err
		}
	}
	if err := r.read(); err != nil {
		return "", err
	}
	r.out = newReport(say)
	if r.temp, err = os.MkdirTemp(b.c.Temp, "brig-build-"); err != nil {
		return "", err
	}
	defer os.RemoveAll(r.temp)
	if r.s, err = b.c.Workshop.Begin(ctx); err != nil {
		return "", err
	}
	defer r.s.End(context.WithoutCancel(ctx))
	id, err = r.build(ctx, tags)
	if err != nil && ctx.Err() != nil {
		if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "\n") {
			b.c.Log.Warn("a build was cancelled, and not all went as it should", "err", err)
		}
		err = errs.New(errs.Canceled, "Build cancelled")
	}
	return id, err
}

// readTags gives each name a tag, and drops repeated ones.
func readTags(list []string) (tags []string, err error) {
	seen := map[string]bool{}
	for _, s := range list {
		n, err := reference.ParseNormalizedNamed(s)
		if err != nil {
			return nil, errs.As(errs.Invalid, err)
		}
		if _, digested := n.(reference.Canonical); digested {
			return nil, errs.New(errs.Invalid, "build tag cannot contain a digest")
		}
		if t := reference.FamiliarString(reference.TagNameOnly(n)); !seen[t] {
			seen[t] = true
			tags = append(tags, t)
		}
	}
	return tags, nil
}

// read reads and plans the Dockerfile.
func (r *run) read() error {
	data, name, err := readDockerfile(r.req.Context, r.req.Dockerfile)
	if err != nil {
		return err
	}
	if r.p, err = parse(data, name); err != nil {
		return err
	}
	if r.ignore, err = readIgnore(r.req.Context, name); err != nil {
		return err
	}
	return r.p.aim(r.req.Target, r.req.Labels, newArgs(r.req.Args, r.c.Host, r.target))
}

func (r *run) build(ctx context.Context, tags []string) (brig.Digest, error) {
	head := r.out.open(-1)
	r.p.warn(&textWriter{line: func(s string) { head.add(brig.BuildLine{Err: s}) }})
	for i, m := range r.p.meta {
		head.say("Step %d/%d : %s\n", i+1, r.p.total, source(m))
	}
	head.end(false)
	var err error
	if r.past, err = r.cacheSources(ctx); err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.ctx, r.failed = ctx, len(r.p.stages)
	for _, i := range r.p.needed { // all of them before the first begins, so that they have their places
		r.stage(i)
	}
	r.out.begin()
	for _, i := range r.p.needed {
		r.start(i)
	}
	r.wg.Wait()
	if err := r.failure(); err != nil {
		return "", err
	}
	return r.finish(ctx, tags)
}

// stage returns the stage i, made if it wasn't there.
func (r *run) stage(i int) *stage {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stages[i]
	if s == nil {
		s = newStage(r, r.p.stages[i])
		r.stages[i] = s
	}
	return s
}

// start begins to build the stage i, once.
func (r *run) start(i int) *stage {
	s := r.stage(i)
	s.once.Do(func() {
		ctx, cancel := context.WithCancel(r.ctx)
		r.mu.Lock()
		r.cancel[i] = cancel
		if i > r.failed {
			cancel()
		}
		r.mu.Unlock()
		r.wg.Go(func() {
			defer cancel()
			s.err = s.build(ctx)
			if s.err != nil {
				r.stopAfter(i)
			}
			s.out.end(s.err != nil)
			close(s.done)
		})
	})
	return s
}

// stopAfter ends the stages behind one that has failed. Those before it go on: a failure of theirs is the one to be told, as if nothing ran in parallel.
func (r *run) stopAfter(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = min(r.failed, i)
	for j, cancel := range r.cancel {
		if j > i {
			cancel()
		}
	}
}

// failure is the error of the first stage that has one.
func (r *run) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.p.stages {
		if s := r.stages[i]; s != nil && s.err != nil {
			return s.err
		}
	}
	return nil
}

// result waits for another stage, which is built if nobody has asked for it before.
func (r *run) result(ctx context.Context, i int) (*stage, error) {
	s := r.start(i)
	select {
	case <-s.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s, s.err
}

// finish makes the image of the last stage.
func (r *run) finish(ctx context.Context, tags []string) (brig.Digest, error) {
	tail := r.out.open(len(r.p.stages))
	r.out.begin()
	used := map[string]bool{}
	for _, s := range r.stages {
		for k := range s.args.used {
			used[k] = true
		}
	}
	if w := r.p.args.unused(used); w != "" {
		tail.say("%s", w)
	}
	s := r.stages[len(r.p.stages)-1]
	if s.base == nil && len(s.steps) == 0 {
		return "", errors.New("No image was generated. Is your Dockerfile empty?")
	}
	id, err := r.s.Make(ctx, s.image(tags, r.req.Epoch))
	if err != nil {
		return "", err
	}
	tail.add(brig.BuildLine{Image: id})
	tail.say("Successfully built %s\n", short(id.Hex()))
	for _, t := range tags {
		tail.say("Successfully tagged %s\n", t)
	}
	return id, nil
}

// short is how Docker shows a hash.
func short(hash string) string { return hash[:min(12, len(hash))] }
