package runtime

import (
	"context"
	"errors"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// Pause freezes a running container.
func (c *Containers) Pause(ctx context.Context, ref string) error {
	ct, err := c.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer ct.lock.release()
	d := c.record(ct)
	switch {
	case d.State == brig.Paused:
		return errs.New(errs.Conflict, "container %s is already paused", ct.id)
	case d.State == brig.Restarting:
		return errs.New(errs.Conflict, "container %s is restarting, wait until the container is running", ct.id)
	case d.State != brig.Running:
		return errs.New(errs.Conflict, "container %s is not running", ct.id)
	}
	next := d.Clone()
	if err := move(next, brig.Paused); err != nil {
		return err
	}
	if err := c.cfg.Freezer.Pause(ctx, d.Handle); err != nil {
		return errs.Wrap(err, "cannot pause container %s", ct.id)
	}
	fault.Point("pause.frozen")
	next.Health = unwatched(d)
	if err := c.commit(context.WithoutCancel(ctx), ct, next); err != nil {
		return errors.Join(err, c.cfg.Freezer.Resume(context.WithoutCancel(ctx), d.Handle))
	}
	fault.Point("pause.recorded")
	c.stopProber(ct)
	c.event(next, "pause")
	return nil
}

// Unpause lets a paused container go on. It goes on also where that can't be recorded, as on a full disk: it could neither be stopped nor
// be removed otherwise.
func (c *Containers) Unpause(ctx context.Context, ref string) error {
	ct, err := c.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer ct.lock.release()
	d := c.record(ct)
	if d.State != brig.Paused {
		return errs.New(errs.Conflict, "container %s is not paused", ct.id)
	}
	next := d.Clone()
	if err := move(next, brig.Running); err != nil {
		return err
	}
	if err := c.cfg.Freezer.Resume(ctx, d.Handle); err != nil {
		return errs.Wrap(err, "cannot unpause container %s", ct.id)
	}
	fault.Point("unpause.thawed")
	if err := c.commit(context.WithoutCancel(ctx), ct, next); err != nil {
		c.log.Error("record that a container goes on; a brigd that starts now would pause it", "container", ct.id.Short(), "err", err)
		c.show(ct, next)
	}
	fault.Point("unpause.recorded")
	c.startProber(ct, next)
	c.event(next, "unpause")
	return nil
}
