package dockerapi

import (
	"context"
	"net/http"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// pruneFilters returns what the filters label, label! and until say of a thing by its labels and the time at which it was made.
func (r *request) pruneFilters() (due func(labels map[string]string, made time.Time) bool, err error) {
	f, err := r.filters("label", "label!", "until")
	if err != nil {
		return nil, err
	}
	v, err := f.single("until")
	if err != nil {
		return nil, err
	}
	until, err := parseTime(v, time.Now())
	if err != nil {
		return nil, err
	}
	return func(labels map[string]string, made time.Time) bool {
		return f.labelsMatch(labels) && (until.IsZero() || !made.After(until))
	}, nil
}

// containerPrune removes what doesn't run. A container that resists, or that someone else removes meanwhile, is left out of the report;
// the first refusal is the answer only if nothing could be removed.
func (s *Server) containerPrune(ctx context.Context, r *request) (response, error) {
	if err := r.drain(); err != nil {
		return nil, err
	}
	due, err := r.pruneFilters()
	if err != nil {
		return nil, err
	}
	all, err := s.Containers.List(ctx)
	if err != nil {
		return nil, err
	}
	var report container.PruneReport
	var refused error
	for _, c := range all {
		if c.State.Active() || c.State == brig.Removing || !due(c.Spec.Labels, c.Created) {
			continue
		}
		freed, err := s.pruneOne(ctx, c)
		switch {
		case ctx.Err() != nil:
			return nil, errs.As(errs.Canceled, ctx.Err())
		case err == nil:
			report.ContainersDeleted = append(report.ContainersDeleted, string(c.ID))
			report.SpaceReclaimed += freed
		case refused == nil && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Conflict):
			refused = err
		}
	}
	if refused != nil && len(report.ContainersDeleted) == 0 {
		return nil, refused
	}
	if refused != nil {
		s.log.Warn("prune left a container behind", "err", refused)
	}
	s.pruned("container", report.SpaceReclaimed)
	return asJSON(http.StatusOK, report), nil
}

// pruneOne returns the bytes that the container had of its own.
func (s *Server) pruneOne(ctx context.Context, c *brig.Container) (uint64, error) {
	rw, _, err := s.containerSize(ctx, c)
	if err != nil {
		rw = 0 // a size that can't be known doesn't stop the removal
	}
	return uint64(rw), s.Containers.Remove(ctx, string(c.ID), brig.RemoveOptions{})
}
