package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/changes"
	"github.com/brigd/brig/internal/errs"
)

// defaultPath is the PATH of images that say none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// A stage is one stage while it is built. Its goroutine alone uses the fields of the middle part; others read them when done is closed.
type stage struct {
	*run
	plan *stagePlan
	out  *part
	once sync.Once
	args *args
	ed   *changes.Editor

	base     *brig.Base // image that all stands on; nil: scratch
	platform brig.Platform
	asked    string      // platform that was asked for, "" for any that runs here
	chain    brig.Digest // the file system as it is now
	key      string      // of the newest step, or the base image's digits; "" for scratch
	steps    []brig.BuiltStep
	author   string
	matches  []match // places in cacheFrom images that the next step may be found at

	done chan struct{}
	err  error
}

func newStage(r *run, p *stagePlan) *stage {
	return &stage{run: r, plan: p, out: r.out.open(p.index), args: r.p.args.stage(), done: make(chan struct{})}
}

// build carries out the stage.
func (s *stage) build(ctx context.Context) error {
	n := s.plan.first
	s.out.say("Step %d/%d : %s\n", n, s.p.total, s.plan.SourceCode)
	if err := s.from(ctx); err != nil {
		return err
	}
	s.out.say(" ---> %s\n", short(s.key))
	for _, cmd := range s.plan.Commands {
		if err := ctx.Err(); err != nil {
			return err
		}
		n++
		s.out.say("Step %d/%d : %s\n", n, s.p.total, source(cmd))
		if err := s.do(ctx, cmd); err != nil {
			return err
		}
		s.out.say(" ---> %s\n", short(s.key))
	}
	return nil
}

// from begins with what FROM names, and does what it has left for its children.
func (s *stage) from(ctx context.Context) error {
	if s.plan.err != nil {
		return errs.As(errs.Invalid, s.plan.err)
	}
	s.platform, s.asked = s.target, s.req.Platform
	if p := s.plan.plat; p != "" {
		var err error
		if s.platform, err = brig.ReadPlatform(p, s.c.Host); err != nil {
			return errs.Wrap(err, "failed to parse platform %s", p)
		}
		s.asked = p
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	if s.asked == "" {
		s.args.aim(s.platform)
	}
	if !slices.ContainsFunc(s.ed.Config.Env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		s.ed.Config.Env = append(s.ed.Config.Env, defaultPath)
	}
	triggers := s.ed.Config.OnBuild
	if s.ed.Config.OnBuild = nil; len(triggers) == 0 {
		return nil
	}
	plural := ""
	if len(triggers) > 1 {
		plural = "s"
	}
	s.out.say("# Executing %d build trigger%s\n", len(triggers), plural)
	for _, t := range triggers {
		cmd, err := s.trigger(t)
		if err != nil {
			return errs.As(errs.Invalid, err)
		}
		if err := s.do(ctx, cmd); err != nil {
			return err
		}
	}
	return nil
}

// begin takes over the base: another stage, an image, or nothing.
func (s *stage) begin(ctx context.Context) error {
	if on := s.plan.on; on != noStage {
		b, err := s.result(ctx, on)
		if err != nil {
			return err
		}
		s.base, s.platform, s.chain, s.key = b.base, b.platform, b.chain, b.key
		s.steps, s.author, s.matches = slices.Clone(b.steps), b.author, slices.Clone(b.matches)
		s.ed = changes.NewEditor(b.ed.Config, s.p.escape)
		return nil
	}
	if s.plan.base == "scratch" {
		s.ed = changes.NewEditor(brig.ImageConfig{}, s.p.escape)
		s.matches = s.starts("")
		return nil
	}
	b, err := s.s.Base(ctx, s.plan.base, s.asked, s.req.Pull, s.req.Auths, func(p brig.Progress) { s.out.add(brig.BuildLine{Progress: &p}) })
	if err != nil {
		return err
	}
	s.base, s.platform, s.chain, s.key = b, b.Platform, b.Chain, b.ID.Hex()
	s.ed = changes.NewEditor(b.Config, s.p.escape)
	s.ed.Config.Author = ""
	s.matches = s.starts(b.Chain)
	return nil
}

// trigger reads one ONBUILD instruction.
func (s *stage) trigger(text string) (instructions.Command, error) {
	doc, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	if len(doc.AST.Children) != 1 {
		return nil, fmt.Errorf("onbuild trigger should be a single expression")
	}
	return instructions.ParseCommand(doc.AST.Children[0])
}

// do carries out one instruction.
func (s *stage) do(ctx context.Context, cmd instructions.Command) error {
	more := s.args.env(s.ed.Config.Env)
	switch x := cmd.(type) {
	case *instructions.ArgCommand:
		if err := s.ed.Expand(x, more); err != nil {
			return errs.As(errs.Invalid, err)
		}
		for _, kv := range x.Args {
			s.args.add(kv.Key, kv.Value)
		}
		return s.configure(ctx, argText(x))
	case *instructions.RunCommand:
		if err := s.ed.Expand(x, more); err != nil {
			return errs.As(errs.Invalid, err)
		}
		return s.runCommand(ctx, x)
	case *instructions.CopyCommand:
		if err := s.ed.Expand(x, more); err != nil {
			return errs.As(errs.Invalid, err)
		}
		return s.copyCommand(ctx, x, more)
	case *instructions.AddCommand:
		if err := s.ed.Expand(x, more); err != nil {
			return errs.As(errs.Invalid, err)
		}
		return s.addCommand(ctx, x, more)
	case *instructions.WorkdirCommand:
		text, err := s.ed.Carry(x, more)
		if err != nil {
			return errs.As(errs.Invalid, err)
		}
		return s.workdir(ctx, text)
	case *instructions.HealthCheckCommand:
		if h := s.ed.Config.Health; h != nil && len(h.Test) > 0 && h.Test[0] != "NONE" {
			s.out.say("Note: overriding previous HEALTHCHECK: %v\n", h.Test)
		}
	}
	text, err := s.ed.Carry(cmd, more)
	if err != nil {
		return errs.As(errs.Invalid, err)
	}
	if m, ok := cmd.(*instructions.MaintainerCommand); ok {
		s.author = m.Maintainer
	}
	return s.configure(ctx, text)
}

// nop is the history's form of an instruction that runs nothing.
func (s *stage) nop(text string) string {
	return strings.Join(s.ed.Shell(), " ") + " #(nop) " + text
}

// configure records an instruction that has changed nothing but the config.
func (s *stage) configure(ctx context.Context, text string) error {
	a := action{by: s.nop(" " + text)}
	a.key = s.keyOf(a.by)
	a.config = true
	return s.carry(ctx, a)
}

// workdir makes the working directory, if it isn't there.
func (s *stage) workdir(ctx context.Context, text string) error {
	a := action{by: s.nop(text), config: true}
	a.key = s.keyOf(a.by)
	dir := s.ed.Config.WorkingDir
	a.work = func(ctx context.Context, t brig.Tree) error { return makeDir(ctx, t.Path, dir) }
	return s.carry(ctx, a)
}

func (s *stage) keyOf(by string, more ...string) string {
	c := s.ed.Config
	c.Author = s.author
	return stepKey(s.key, s.chain, by, c, more...)
}

// An action is a step that may have to be carried out.
type action struct {
	by, key string
	config  bool                                         // it is told like a container that does nothing
	work    func(ctx context.Context, t brig.Tree) error // changes the file system; nil: nothing does
}

// carry takes the step from the cache, or carries it out.
func (s *stage) carry(ctx context.Context, a action) error {
	if !s.req.NoCache {
		leave, err := s.flights.enter(ctx, a.key)
		if err != nil {
			return err
		}
		defer leave()
		hit, err := s.find(ctx, a)
		if err != nil {
			return err
		}
		if hit != nil {
			s.out.say(" ---> Using cache\n")
			s.take(*hit)
			return nil
		}
	}
	s.matches = nil
	leave, err := s.slot(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if a.config {
		s.out.say(" ---> Running in %s\n", nobody(a.key))
	}
	step := brig.Step{Key: a.key, Parent: s.key, By: a.by, Chain: s.chain}
	if a.work != nil {
		if step.Chain, step.Size, err = s.change(ctx, a.work); err != nil {
			return err
		}
		step.Own = step.Chain != s.chain
	}
	step.Created = time.Now().UTC()
	if err := s.s.Keep(ctx, step); err != nil {
		return err
	}
	if a.config && !s.req.Keep {
		s.out.say("Removing intermediate container %s\n", nobody(a.key))
	}
	s.take(step)
	return nil
}

// nobody is shown where dockerd makes a container for an instruction that runs nothing.
func nobody(key string) string {
	sum := sha256.Sum256([]byte("container of " + key))
	return short(hex.EncodeToString(sum[:]))
}

// change works in a clone of the file system and makes a chain of it.
func (s *stage) change(ctx context.Context, work func(context.Context, brig.Tree) error) (chain brig.Digest, size int64, err error) {
	t, err := s.s.Clone(ctx, s.chain)
	if err != nil {
		return "", 0, err
	}
	if err = work(ctx, t); err == nil {
		chain, size, err = s.s.Commit(ctx, t)
	}
	if err != nil {
		s.s.Discard(context.WithoutCancel(ctx), t) // the session's end does it again if it fails
	}
	return chain, size, err
}

// take makes a step the newest one.
func (s *stage) take(st brig.Step) {
	b := brig.BuiltStep{Key: st.Key, Created: st.Created, By: st.By, Author: s.author}
	if st.Own {
		b.Chain, b.Parent = st.Chain, s.chain
	}
	s.steps = append(s.steps, b)
	s.chain, s.key = st.Chain, st.Key
}

// slot waits until there is room for one more step. The stage whose turn it is to speak needs none: the others wait for it.
func (s *stage) slot(ctx context.Context) (leave func(), err error) {
	select {
	case <-s.out.turn:
		return func() {}, nil
	default:
	}
	select {
	case <-s.out.turn:
		return func() {}, nil
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// image is what the stage makes.
func (s *stage) image(tags []string, epoch *time.Time) brig.BuiltImage {
	b := brig.BuiltImage{Platform: s.platform, Config: s.ed.Config, Author: s.author, Steps: slices.Clone(s.steps), Tags: tags, Epoch: epoch}
	if s.base != nil {
		b.Base = s.base.ID
	}
	for i := range b.Steps {
		if c := &b.Steps[i].Created; epoch != nil && c.After(*epoch) {
			*c = *epoch
		}
		b.Created = b.Steps[i].Created
	}
	return b
}
