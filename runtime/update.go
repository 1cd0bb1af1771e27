package runtime

import (
	"context"
	"errors"
	"reflect"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Update changes a container's limits and restart policy. change gets a copy of the record and alters Spec.Limits, Spec.Restart and
// HostConfig of it; what else it alters is lost. A container that runs is held to the new limits before they are saved.
func (c *Containers) Update(ctx context.Context, ref string, change func(*brig.Container) error) (warnings []string, err error) {
	ct, err := c.hold(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer ct.lock.release()
	if warnings, err = c.update(ctx, ct, change); err != nil {
		return nil, errs.Wrap(err, "Cannot update container %s", ct.id)
	}
	return warnings, nil
}

// update is Update for the holder of ct's lock.
func (c *Containers) update(ctx context.Context, ct *container, change func(*brig.Container) error) ([]string, error) {
	cur := c.record(ct)
	if cur.State == brig.Removing || cur.State == brig.Dead {
		return nil, errs.New(errs.Conflict, "Container is marked for removal and cannot be \"update\".")
	}
	wanted := cur.Clone()
	if err := change(wanted); err != nil {
		return nil, err
	}
	next := cur.Clone()
	next.Spec.Limits, next.Spec.Restart, next.HostConfig = wanted.Spec.Limits, wanted.Spec.Restart, wanted.HostConfig
	if next.Spec.AutoRemove && restarts(next.Spec.Restart) {
		return nil, errs.New(errs.Conflict, "Restart policy cannot be updated because AutoRemove is enabled for the container")
	}
	live := cur.State.HasProcess() && cur.Handle != nil && !reflect.DeepEqual(cur.Spec.Limits, next.Spec.Limits)
	if live {
		if err := c.cfg.Limiter.Limit(ctx, cur.Handle, &next.Spec.Limits); err != nil {
			return nil, errors.Join(err, c.limitAgain(ctx, cur))
		}
	}
	if err := c.commit(context.WithoutCancel(ctx), ct, next); err != nil {
		if live {
			err = errors.Join(err, c.limitAgain(ctx, cur))
		}
		return nil, err
	}
	c.event(next, "update")
	return c.cfg.Host.Warnings(&brig.Spec{Limits: next.Spec.Limits}), nil
}

// limitAgain puts back the limits of the record after a change that failed, perhaps half way.
func (c *Containers) limitAgain(ctx context.Context, d *brig.Container) error {
	return errs.Wrap(c.cfg.Limiter.Limit(context.WithoutCancel(ctx), d.Handle, &d.Spec.Limits), "put the former limits back")
}
