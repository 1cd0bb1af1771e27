package runtime

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/tarfs"
)

// Base finds an image for a platform ("" for the host's), here or, if it isn't here or pull is set, at its registry. What it needs stays until
// the session ends. As with dockerd, an image that is here for another platform alone will do if its registry has none that is right.
func (x *StepSession) Base(ctx context.Context, ref, platform string, pull bool, auths map[string]brig.Auth, progress func(brig.Progress)) (*brig.Base, error) {
	img, err := x.hold(ctx, ref, platform)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	if err != nil || pull {
		if err := x.pull(ctx, ref, platform, auths, progress); err != nil {
			if img, herr := x.hold(ctx, ref, ""); herr == nil && !pull {
				return baseOf(ref, img), nil
			}
			return nil, err
		}
		if img, err = x.hold(ctx, ref, platform); errs.Is(err, errs.NotFound) {
			img, err = x.hold(ctx, ref, "") // the pull has warned of it
		}
		if err != nil {
			return nil, err
		}
	}
	return baseOf(ref, img), nil
}

func baseOf(ref string, img *brig.Image) *brig.Base {
	return &brig.Base{ID: img.ID, Ref: ref, Digest: img.Manifest, Chain: img.Chain(), Platform: img.Platform, Config: img.Config, Layers: len(img.Layers)}
}

// pull pulls ref. What is no name but an ID can't be pulled: it isn't here.
func (x *StepSession) pull(ctx context.Context, ref, platform string, auths map[string]brig.Auth, progress func(brig.Progress)) error {
	p, err := parseRef(ref)
	if err != nil {
		return err
	}
	if p.named == nil {
		return p.missing()
	}
	tag := ""
	switch n := p.named.(type) {
	case reference.Digested:
		tag = n.Digest().String()
	case reference.Tagged:
		tag = n.Tag()
	}
	return x.s.i.Pull(ctx, brig.PullRequest{Name: p.named.Name(), Tag: tag, Platform: platform, Auth: authFor(auths, reference.Domain(p.named))}, progress)
}

// authFor finds a registry's credentials under its host, or a URL of it as docker login writes it. Docker Hub has a name of its own there.
func authFor(auths map[string]brig.Auth, domain string) brig.Auth {
	hosts := map[string]bool{domain: true}
	if domain == "docker.io" {
		hosts["index.docker.io"], hosts["registry-1.docker.io"] = true, true
	}
	if a, ok := auths[domain]; ok {
		return a
	}
	for key, a := range auths {
		_, after, ok := strings.Cut(key, "://")
		if !ok {
			after = key
		}
		if host, _, _ := strings.Cut(after, "/"); hosts[host] {
			return a
		}
	}
	return brig.Auth{}
}

// emptyTar is the diffID of a layer of nothing, which images don't have.
var emptyTar = brig.DigestOf(make([]byte, 1024))

// hashers is how many layers are packed and hashed at once.
const hashers = 2

// Make makes an image of its base, which must be from this session, and the steps, whose chains the session must hold, and gives it its names. Its
// layers are hashed for it. The same BuiltImage gives the same ID. Without steps it is the base itself.
func (x *StepSession) Make(ctx context.Context, b brig.BuiltImage) (brig.Digest, error) {
	i := x.s.i
	ctx, cancel := i.joinContext(ctx)
	defer cancel()
	var refs []string
	var names []reference.Named
	for _, tag := range b.Tags {
		named, err := tagRef(tag, "")
		if err != nil {
			return "", err
		}
		names, refs = append(names, named), append(refs, named.String())
	}
	if b.Base != "" && len(b.Steps) == 0 {
		img, _, err := x.base(b.Base)
		if err == nil {
			err = x.name(ctx, img, names, refs)
		}
		return b.Base, err
	}
	made, err := x.layers(ctx, &b)
	if err != nil {
		return "", err
	}
	doc := newImageDoc(b.Platform, &b.Config, b.Created)
	doc.Author, doc.DockerVersion = b.Author, i.Version
	var layers []brig.Layer
	if b.Base != "" {
		base, config, err := x.base(b.Base)
		if err != nil {
			return "", err
		}
		if err := doc.inherit(config); err != nil {
			return "", err
		}
		layers = append(layers, base.Layers...)
	}
	for n, step := range b.Steps {
		h := historyDoc{Created: step.Created.UTC().Format(time.RFC3339Nano), CreatedBy: step.By, Author: step.Author, Comment: step.Comment}
		diff := made[n].Diff
		if diff == emptyTar {
			diff = ""
		}
		if err := doc.add(h, diff); err != nil {
			return "", err
		}
		if diff != "" {
			layers = append(layers, made[n])
		}
	}
	x.s.learn(b.Steps, made)
	l := i.lease()
	defer l.release(ctx)
	img, err := i.describeDoc(ctx, l, doc, layers, firstRef(refs))
	if err != nil {
		return "", err
	}
	img.Steps = x.s.behind(b.Steps)
	return img.ID, x.name(ctx, img, names, refs)
}

// name records the image under its names, which refs has in full.
func (x *StepSession) name(ctx context.Context, img *brig.Image, names []reference.Named, refs []string) error {
	if err := x.record(ctx, img, refs); err != nil {
		return err
	}
	for _, named := range names {
		x.s.i.event("tag", img, string(img.ID), reference.FamiliarString(named))
	}
	return nil
}

// record records the image, and before it the steps that aren't yet: whoever asks again after a crash in between gets the same image.
func (x *StepSession) record(ctx context.Context, img *brig.Image, refs []string) error {
	x.mu.Lock()
	x.lease.image(img)
	x.mu.Unlock()
	for _, layer := range img.Layers {
		if there, err := x.s.there(ctx, layer.Chain); err != nil || !there {
			return cmp.Or(err, errs.New(errs.NotFound, "layer %s of the image is not in the store any more", shortDigest(layer.Diff)))
		}
	}
	x.s.mu.Lock()
	grown := x.s.grown
	x.s.mu.Unlock()
	commit := x.s.i.commit
	if grown {
		if err := x.s.flush(ctx, x.s.i.Blobs.Dir()); err != nil {
			return err
		}
		commit = x.s.i.commitSynced
	}
	_, err := commit(ctx, img, refs)
	fault.Point("build.recorded")
	return err
}

// base returns an image of this session and its exact config. It may have been removed meanwhile.
func (x *StepSession) base(id brig.Digest) (*brig.Image, []byte, error) {
	x.mu.Lock()
	img := x.bases[id]
	x.mu.Unlock()
	if img == nil {
		return nil, nil, errs.New(errs.NotFound, "No such image: %s", id)
	}
	config, err := x.s.i.Blobs.Get(id)
	return img, config, errs.Wrap(err, "config of image %s", shortDigest(id))
}

// layers finds the layer of each step, with no Diff for those that have none, and packs those whose digests nobody knows.
func (x *StepSession) layers(ctx context.Context, b *brig.BuiltImage) ([]brig.Layer, error) {
	out := make([]brig.Layer, len(b.Steps))
	failed := make([]error, len(b.Steps))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newSlots(hashers)
	var all sync.WaitGroup
	for n, step := range b.Steps {
		if step.Chain == "" || step.Chain == step.Parent {
			continue
		}
		out[n] = brig.Layer{Chain: step.Chain, Epoch: b.Epoch}
		if x.s.hashed(step.Key, &out[n]) {
			continue
		}
		turn := s.ticket()
		all.Go(func() {
			defer s.giveBack(turn)
			if failed[n] = turn.wait(ctx); failed[n] == nil {
				failed[n] = x.s.i.hashLayer(ctx, &out[n])
			}
			if failed[n] != nil {
				cancel()
			}
		})
	}
	all.Wait()
	for _, err := range failed {
		if err != nil && !errors.Is(err, context.Canceled) {
			return nil, err
		}
	}
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	return out, nil
}

// packLayer writes the tar of a layer that was built here. Each time it has the same bytes.
func (i *Images) packLayer(ctx context.Context, x brig.Layer, w io.Writer) (size int64, err error) {
	err = i.Trees.ReadLayer(ctx, x.Chain, func(dir string, changes []brig.Change) error {
		size, err = tarfs.PackLayer(ctx, w, dir, changes, x.Epoch)
		return err
	})
	return size, errs.Wrap(err, "pack the layer %s", x.Chain)
}

// hashLayer finds out a layer's digest and size.
func (i *Images) hashLayer(ctx context.Context, x *brig.Layer) (err error) {
	h := sha256.New()
	if x.Size, err = i.packLayer(ctx, *x, h); err != nil {
		return err
	}
	x.Diff = brig.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
	return nil
}

// hashed completes a layer whose digest a step, or an image that has it, knows.
func (s *Steps) hashed(key string, x *brig.Layer) bool {
	s.mu.Lock()
	if e := s.steps[key]; e != nil && e.step.Chain == x.Chain && e.step.Diff != "" && x.Epoch == nil {
		x.Diff, x.Size = e.step.Diff, e.step.Size
	}
	s.mu.Unlock()
	if x.Diff != "" {
		return true
	}
	s.i.mu.Lock()
	defer s.i.mu.Unlock()
	known, ok := s.i.known[x.Chain]
	if ok = ok && sameEpoch(known.Epoch, x.Epoch); ok {
		x.Diff, x.Size = known.Diff, known.Size
	}
	return ok
}

func sameEpoch(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }

// learn notes the digests of layers with their steps, so that nobody need find them out again.
func (s *Steps) learn(steps []brig.BuiltStep, made []brig.Layer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, b := range steps {
		e := s.steps[b.Key]
		if e == nil || made[n].Diff == "" || e.step.Chain != made[n].Chain || made[n].Epoch != nil || e.step.Diff == made[n].Diff {
			continue
		}
		e.step.Diff, e.step.Size = made[n].Diff, made[n].Size
		s.stale[staleKey{kindStep, b.Key}] = true
		s.stir()
	}
}

// behind returns what the cache knows of the steps of an image.
func (s *Steps) behind(steps []brig.BuiltStep) (out []brig.Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range steps {
		if e := s.steps[b.Key]; e != nil {
			step := e.step
			step.Used, step.Count = time.Time{}, 0
			out = append(out, step)
		}
	}
	return out
}
