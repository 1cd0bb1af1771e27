package runtime

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// BuildCache lists what builds keep for later ones, the latest made first. The sizes of directories are added up anew.
func (s *Steps) BuildCache(ctx context.Context) ([]brig.BuildCacheEntry, error) {
	chains, steps := s.i.imageParts()
	out := []brig.BuildCacheEntry{}
	paths := map[string]string{}
	s.mu.Lock()
	for key, e := range s.steps {
		out = append(out, stepLine(key, e, e.step.Own && chains[e.step.Chain] || steps[key]))
	}
	for key, e := range s.dirs {
		out = append(out, brig.BuildCacheEntry{
			ID: key, Type: brig.BuildCacheDir, Description: "cached mount " + e.rec.ID, InUse: e.users > 0, Created: e.rec.Created, Used: e.rec.Used, Count: e.rec.Count,
		})
		paths[key] = e.path
	}
	s.mu.Unlock()
	for n := range out {
		if out[n].Type != brig.BuildCacheDir {
			continue
		}
		size, err := s.dirSize(ctx, out[n].ID, paths[out[n].ID])
		if err != nil {
			return nil, err
		}
		out[n].Size = size
	}
	slices.SortFunc(out, func(a, b brig.BuildCacheEntry) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

func stepLine(key string, e *stepEntry, shared bool) brig.BuildCacheEntry {
	line := brig.BuildCacheEntry{
		ID: key, Type: brig.BuildCacheStep, Description: e.step.By, InUse: e.users > 0, Shared: shared,
		Created: e.step.Created, Used: e.step.Used, Count: e.step.Count,
	}
	if e.step.Parent != "" {
		line.Parents = []string{e.step.Parent}
	}
	if e.step.Own {
		line.Size = e.step.Size
	}
	return line
}

// dirSize adds up a directory, which it mounts if nobody has since the start, and is a user of meanwhile: who prunes leaves it alone.
func (s *Steps) dirSize(ctx context.Context, key, path string) (int64, error) {
	if path == "" {
		s.mu.Lock()
		e := s.dirs[key]
		if e == nil || e.users > 0 { // it is being made, or pruned
			s.mu.Unlock()
			return 0, nil
		}
		e.users++
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			e.users--
			s.free()
		}()
		var err error
		if path, err = s.volumes.MakeVolume(ctx, e.rec.Dataset, 0); err != nil {
			return 0, errs.Wrap(err, "look at the cache directory %q", e.rec.ID)
		}
	}
	size, err := treeSize(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // pruned meanwhile
	}
	return size, errs.Wrap(err, "size of the cache directory %s", key)
}

// imageParts are the chains of all images' layers, and the keys of the steps that images were built by.
func (i *Images) imageParts() (chains map[brig.Digest]bool, steps map[string]bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	chains, steps = map[brig.Digest]bool{}, map[string]bool{}
	for _, e := range i.images {
		for _, x := range e.img.Layers {
			chains[x.Chain] = true
		}
		for _, x := range e.img.Steps {
			steps[x.Key] = true
		}
	}
	return chains, steps
}

// PruneBuilds removes what builds keep, as r says; nothing that a build under way uses. What is Shared frees nothing.
func (s *Steps) PruneBuilds(ctx context.Context, r brig.BuildPruneRequest) (brig.BuildPruned, error) {
	list, err := s.BuildCache(ctx)
	if err != nil {
		return brig.BuildPruned{}, err
	}
	var total int64
	for _, e := range list {
		if !e.Shared {
			total += e.Size
		}
	}
	slices.SortStableFunc(list, func(a, b brig.BuildCacheEntry) int { return lastUse(&a).Compare(lastUse(&b)) })
	var out []brig.BuildCacheEntry
	for _, e := range list {
		if e.InUse || e.Shared && !r.All || !r.Before.IsZero() && !lastUse(&e).Before(r.Before) || r.Match != nil && !r.Match(&e) {
			continue
		}
		if r.Keep > 0 && total <= r.Keep {
			break
		}
		if !e.Shared {
			total -= e.Size
		}
		out = append(out, e)
	}
	return s.prune(ctx, out)
}

// lastUse is when an entry was last of use: made, or taken.
func lastUse(e *brig.BuildCacheEntry) time.Time {
	if e.Used.After(e.Created) {
		return e.Used
	}
	return e.Created
}

// A pruning is what goes in one prune. It is out of everybody's reach, but not dropped yet.
type pruning struct {
	list    []brig.BuildCacheEntry
	steps   map[string]*stepEntry
	dirs    map[string]*dirEntry
	records []brig.Record
}

// prune removes entries that nobody has begun to use meanwhile.
func (s *Steps) prune(ctx context.Context, list []brig.BuildCacheEntry) (out brig.BuildPruned, err error) {
	s.write.Lock()
	defer s.write.Unlock()
	p := s.seize(list)
	if len(p.list) == 0 {
		return out, nil
	}
	if err := s.i.Records.Put(ctx, nil, p.records); err != nil {
		s.restore(p)
		return out, errs.Wrap(err, "prune the build cache")
	}
	fault.Point("steps.pruned")
	var failed []error
	for _, e := range slices.Backward(p.list) { // a step is younger than what it stands on
		if step := p.steps[e.ID]; step != nil {
			step.lease.release(ctx)
		} else {
			failed = append(failed, s.removeDir(ctx, e.ID, p.dirs[e.ID]))
		}
		out.IDs = append(out.IDs, e.ID)
		if !e.Shared {
			out.Freed += e.Size
		}
	}
	s.i.Reap(ctx) // chains that others of these stood on
	return out, errors.Join(failed...)
}

func (s *Steps) seize(list []brig.BuildCacheEntry) *pruning {
	p := &pruning{steps: map[string]*stepEntry{}, dirs: map[string]*dirEntry{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range list {
		kind := kindStep
		if line.Type == brig.BuildCacheDir {
			kind = kindCacheDir
		}
		step, dir := s.steps[line.ID], s.dirs[line.ID]
		switch {
		case kind == kindStep && step != nil && step.users == 0:
			delete(s.steps, line.ID)
			p.steps[line.ID] = step
		case kind == kindCacheDir && dir != nil && dir.users == 0:
			dir.users, dir.exclusive = 1, true
			p.dirs[line.ID] = dir
		default:
			continue
		}
		p.list = append(p.list, line)
		p.records = append(p.records, brig.Record{Kind: kind, Key: line.ID})
	}
	return p
}

// restore undoes seize.
func (s *Steps) restore(p *pruning) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, e := range p.steps {
		if s.steps[key] == nil {
			s.steps[key] = e
		}
	}
	for _, e := range p.dirs {
		e.users, e.exclusive = 0, false
	}
	s.free()
}

// removeDir removes a directory that has been seized. What can't be removed is named by nobody any more: the next sweep takes it.
func (s *Steps) removeDir(ctx context.Context, key string, e *dirEntry) error {
	err := s.volumes.RemoveVolume(ctx, e.rec.Dataset)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dirs, key)
	s.free()
	return errs.Wrap(err, "remove the cache directory %q", e.rec.ID)
}
