package zfsstore

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// Prepare makes the root file system id as a clone of the chain parent, "" for an empty one. size is a quota in bytes, 0 for none.
// NotFound: no such chain. Conflict: id exists. NotImplemented: the driver holds no quotas.
func (s *Store) Prepare(ctx context.Context, id brig.RID, parent brig.Digest, size int64) error {
	unlock, err := s.lockRoot(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	s.mu.Lock()
	_, ok := s.roots[id]
	s.mu.Unlock()
	if ok {
		return errs.New(errs.Conflict, "container dataset %s exists", id)
	}
	lin, unpin, err := s.pin(parent)
	if err != nil {
		return err
	}
	defer unpin()
	if err := s.d.clone(ctx, id, lin, size); err != nil {
		return errs.Wrap(err, "make container dataset %s", id)
	}
	fault.Point("root.made")
	s.mu.Lock()
	s.roots[id] = parent
	s.mu.Unlock()
	return nil
}

// root returns the lineage that a container stands on. NotFound: no such container.
func (s *Store) root(id brig.RID) ([]layer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parent, ok := s.roots[id]
	if !ok {
		return nil, errs.New(errs.NotFound, "no such container dataset: %s", id)
	}
	return s.lineage(parent)
}

// Mount makes a root file system visible on the host and returns where. One that is mounted stays as it is.
func (s *Store) Mount(ctx context.Context, id brig.RID) (string, error) {
	unlock, err := s.lockRoot(ctx, id)
	if err != nil {
		return "", err
	}
	defer unlock()
	lin, err := s.root(id)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	fleeting := s.fleeting[id]
	s.mu.Unlock()
	p, err := s.d.mount(ctx, id, lin, fleeting)
	return p, errs.Wrap(err, "mount container dataset %s", id)
}

// Unmount undoes Mount; what is not mounted, or not there, is fine.
func (s *Store) Unmount(ctx context.Context, id brig.RID) error {
	unlock, err := s.lockRoot(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return errs.Wrap(s.d.unmount(ctx, id), "unmount container dataset %s", id)
}

// Diff lists what differs from the parent chain, sorted by path.
func (s *Store) Diff(ctx context.Context, id brig.RID) ([]brig.Change, error) {
	unlock, err := s.lockRoot(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	lin, err := s.root(id)
	if err != nil {
		return nil, err
	}
	c, err := s.d.changes(ctx, id, lin)
	return c, errs.Wrap(err, "compare container dataset %s", id)
}

// Remove unmounts and deletes a root file system; one that is not there is removed already.
func (s *Store) Remove(ctx context.Context, id brig.RID) error {
	unlock, err := s.lockRoot(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	s.mu.Lock()
	_, ok := s.roots[id]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	if err := s.d.remove(ctx, id); err != nil {
		return errs.Wrap(err, "remove container dataset %s", id)
	}
	fault.Point("root.removed")
	s.mu.Lock()
	delete(s.roots, id)
	delete(s.fleeting, id)
	s.mu.Unlock()
	return nil
}

// Sweep removes all that live doesn't name: containers, chains (ancestors of what lives stay), volumes, what a crash left, and stale
// mounts. What is being made meanwhile is spared; what was committed since live was gathered is not, so call it when nothing pulls.
func (s *Store) Sweep(ctx context.Context, live brig.Live) error {
	k := keep{layers: map[brig.RID]bool{}, roots: map[brig.RID]bool{}, volumes: map[brig.RID]bool{}, active: s.isActive}
	for _, id := range live.Containers {
		k.roots[id] = true
	}
	for _, id := range live.Volumes {
		k.volumes[id] = true
	}
	var all []error
	for _, id := range s.rootIDs() {
		if !k.roots[id] && !s.isActive(id) {
			all = append(all, s.Remove(ctx, id))
		}
	}
	for _, c := range s.deadChains(live.Chains) {
		if err := s.Drop(ctx, c); err != nil && !errs.Is(err, errs.Conflict) {
			all = append(all, err)
		}
	}
	s.mu.Lock()
	for _, l := range s.chains {
		k.layers[l.RID] = true
	}
	for id := range s.roots {
		k.roots[id] = true // also those whose removal failed just now
	}
	s.mu.Unlock()
	all = append(all, s.d.sweep(ctx, k), s.sweepMountPoints(k))
	return errs.Wrap(errors.Join(all...), "sweep the store")
}

// Unused lists the chains that neither live, nor a container, nor a chain that is needed stands on, each before its parent.
func (s *Store) Unused(live []brig.Digest) []brig.StoredChain {
	dead := s.deadChains(live)
	out := make([]brig.StoredChain, 0, len(dead))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range dead {
		if l, ok := s.chains[c]; ok {
			out = append(out, brig.StoredChain{Chain: c, Size: l.Size})
		}
	}
	return out
}

// Reap tries again to delete what could not be deleted when it was removed, and counts what still can't.
func (s *Store) Reap(ctx context.Context) (left int, err error) { return s.d.reap(ctx, s.isActive) }

func (s *Store) isActive(id brig.RID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active[id] > 0
}

func (s *Store) rootIDs() []brig.RID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.roots))
}

// deadChains lists the chains that neither live nor a container needs, leaves first.
func (s *Store) deadChains(live []brig.Digest) []brig.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	alive := map[brig.Digest]bool{}
	mark := func(c brig.Digest) {
		for c != "" && !alive[c] {
			alive[c] = true
			c = s.chains[c].Parent
		}
	}
	for _, c := range live {
		mark(c)
	}
	for _, c := range s.roots {
		mark(c)
	}
	depth := map[brig.Digest]int{}
	var dead []brig.Digest
	for c := range s.chains {
		if alive[c] {
			continue
		}
		lin, err := s.lineage(c)
		if err == nil {
			depth[c] = len(lin)
			dead = append(dead, c)
		}
	}
	slices.SortFunc(dead, func(a, b brig.Digest) int { return cmp.Or(depth[b]-depth[a], cmp.Compare(a, b)) })
	return dead
}
