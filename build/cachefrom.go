package build

import (
	"context"
	"slices"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// A cacheSource is what CacheFrom names: the steps of an image, the oldest first. Those of an image that was built here have their keys, others are told by
// what they say.
type cacheSource []brig.Step

// A match is a place in a cacheSource: the step at next may be the one that is wanted.
type match struct {
	source cacheSource
	next   int
}

// cacheSources looks the images up. One that isn't here is no error, as for dockerd.
func (r *run) cacheSources(ctx context.Context) (list []cacheSource, err error) {
	for _, ref := range r.req.CacheFrom {
		steps, err := r.s.History(ctx, ref)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, steps)
	}
	return list, nil
}

// starts are the places at which a stage that stands on chain can go on: behind each step that has left it.
func (r *run) starts(chain brig.Digest) (list []match) {
	for _, src := range r.past {
		if chain == "" && len(src) > 0 {
			list = append(list, match{src, 0})
		}
		for i, st := range src[:max(0, len(src)-1)] {
			if st.Chain == chain {
				list = append(list, match{src, i + 1})
			}
		}
	}
	return list
}

// find looks for a step in the cache, then in the images that may serve as one.
func (s *stage) find(ctx context.Context, a action) (*brig.Step, error) {
	hit, err := s.s.Find(ctx, a.key)
	if err != nil {
		return nil, err
	}
	var next []match
	var found *brig.Step
	for _, src := range s.past {
		for i := range src {
			if src[i].Key == a.key {
				found = &src[i]
			}
		}
	}
	for _, m := range s.matches {
		if m.next < len(m.source) && m.source[m.next].By == a.by {
			if found == nil {
				found = &m.source[m.next]
			}
			next = append(next, match{m.source, m.next + 1})
		}
	}
	if hit == nil && found != nil {
		step := *found
		step.Key, step.Parent, step.Own = a.key, s.key, step.Chain != s.chain
		if err := s.s.Keep(ctx, step); err != nil {
			return nil, err
		}
		hit = &step
	}
	if hit != nil { // a step of the cache itself has a chain that the images don't have, unless they are where it comes from
		s.matches = slices.DeleteFunc(next, func(m match) bool { return m.source[m.next-1].Chain != hit.Chain })
	}
	return hit, nil
}
