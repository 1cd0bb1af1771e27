package runtime

import (
	"context"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// statsPause lies between two samples, as in Docker.
const statsPause = time.Second

// Stats calls each with what a container uses: once, or with Stream every second until ctx ends, the container is removed, Containers
// closes, or each fails. A container that doesn't run uses nothing; a stream goes on and shows it once it runs again.
func (c *Containers) Stats(ctx context.Context, ref string, o brig.StatsOptions, each func(brig.Stats) error) error {
	ct, err := c.find(ref)
	if err != nil {
		return err
	}
	if o.Stream && o.OneShot {
		return errs.New(errs.Invalid, "cannot have stream=true and one-shot=true")
	}
	var before brig.Sample
	for first := true; ; first = false {
		now, there, err := c.sample(ctx, ct)
		if err != nil || !there {
			return err
		}
		now.Before = before
		if before = now.Sample; now.Read.IsZero() {
			now.Before, before = brig.Sample{}, brig.Sample{}
		}
		if o.Stream || o.OneShot || !first || now.Read.IsZero() {
			if err := each(now); err != nil || !o.Stream {
				return err
			}
		}
		if !c.pause(ctx, statsPause) {
			return ctx.Err()
		}
	}
}

// sample looks at ct; one that doesn't run has an empty sample. there is false once it has been removed.
func (c *Containers) sample(ctx context.Context, ct *container) (s brig.Stats, there bool, err error) {
	c.mu.Lock()
	d, gone := ct.rec, ct.gone
	c.mu.Unlock()
	if gone {
		return s, false, nil
	}
	s.ID, s.Name = d.ID, d.Name
	if !d.State.HasProcess() || d.Handle == nil {
		return s, true, nil
	}
	s.Sample, err = c.cfg.Gauge.Stats(ctx, d.Handle)
	if errs.Is(err, errs.NotFound) { // it has ended, and its watcher is about to say so
		s.Sample, err = brig.Sample{}, nil
	}
	return s, true, errs.Wrap(err, "look at what container %s uses", d.ID.Short())
}

// pause returns false if ctx ends or Containers closes first.
func (c *Containers) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-c.base.Done():
		return false
	}
}
