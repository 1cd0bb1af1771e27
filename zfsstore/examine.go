package zfsstore

import (
	"context"
	"slices"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// stored is what a driver finds on disk, whoever knows of it.
type stored struct {
	layers []layer               // whole ones
	rids   map[string][]brig.RID // by kind: all that is there, whole or not
}

// Stored lists what is on disk and what should be. Call it before gathering what is alive: what is made after that is not in the list.
// Layers and work that are being made or removed are left out.
func (s *Store) Stored(ctx context.Context) ([]brig.StoredItem, error) {
	first, err := s.compare(ctx)
	if err != nil || !slices.ContainsFunc(first, func(i brig.StoredItem) bool { return i.Stray || i.Lost }) {
		return first, err
	}
	// What was committed or removed between looking at the disk and at the index is not so the second time.
	second, err := s.compare(ctx)
	return slices.DeleteFunc(second, func(i brig.StoredItem) bool { return (i.Stray || i.Lost) && !slices.Contains(first, i) }), err
}

func (s *Store) compare(ctx context.Context) (out []brig.StoredItem, err error) {
	on, err := s.d.stored(ctx)
	if err != nil {
		return nil, errs.Wrap(err, "list what is stored")
	}
	whole := map[brig.RID]map[brig.Digest]bool{}
	for _, l := range on.layers {
		if whole[l.RID] == nil {
			whole[l.RID] = map[brig.Digest]bool{}
		}
		whole[l.RID][l.Chain] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := map[brig.RID]bool{}
	for c, l := range s.chains {
		known[l.RID] = true
		if s.active[l.RID] == 0 {
			out = append(out, brig.StoredItem{Kind: brig.StoredLayer, RID: l.RID, Chain: c, Lost: !whole[l.RID][c]})
		}
	}
	for _, kind := range []string{brig.StoredLayer, brig.StoredContainer, brig.StoredVolume, brig.StoredWork, brig.StoredMount} {
		for _, rid := range on.rids[kind] {
			switch item := (brig.StoredItem{Kind: kind, RID: rid}); {
			case s.active[rid] > 0 && kind != brig.StoredContainer && kind != brig.StoredVolume:
			case kind == brig.StoredLayer || kind == brig.StoredWork:
				if item.Stray = true; !known[rid] {
					out = append(out, item)
				}
			default:
				out = append(out, item)
			}
		}
	}
	return out, nil
}

// Scrap removes what Stored listed: files that nobody names, or the memory of a layer whose files are lost (Conflict: something is being
// built on it). It is idempotent.
func (s *Store) Scrap(ctx context.Context, i brig.StoredItem) error {
	unlock, err := s.lockRoot(ctx, i.RID)
	if err != nil {
		return err
	}
	defer unlock()
	switch i.Kind {
	case brig.StoredLayer:
		s.mu.Lock()
		if i.Lost {
			if s.pins[i.Chain] > 0 {
				s.mu.Unlock()
				return errs.New(errs.Conflict, "layer chain %s is being built on", i.Chain)
			}
			delete(s.chains, i.Chain)
		}
		s.mu.Unlock()
		return errs.Wrap(s.d.scrapLayer(ctx, i.RID), "remove layer %s", i.RID)
	case brig.StoredContainer:
		if err := s.d.remove(ctx, i.RID); err != nil {
			return errs.Wrap(err, "remove container dataset %s", i.RID)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.roots, i.RID)
		delete(s.fleeting, i.RID)
		return nil
	case brig.StoredVolume:
		return errs.Wrap(s.d.removeVolume(ctx, i.RID), "remove volume %s", i.RID)
	case brig.StoredMount:
		return errs.Wrap(s.d.unmount(ctx, i.RID), "unmount container dataset %s", i.RID)
	case brig.StoredWork:
		if left, err := s.d.reap(ctx, func(rid brig.RID) bool { return rid != i.RID }); left > 0 || err != nil {
			return errs.Wrap(errs.As(errs.Unavailable, err), "remove the unfinished work %s", i.RID)
		}
		return nil
	}
	return errs.New(errs.Invalid, "unknown kind %q", i.Kind)
}
