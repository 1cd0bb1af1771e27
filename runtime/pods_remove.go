package runtime

import (
	"context"
	"errors"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// PodRemove removes a pod with its apps' containers and the volumes that it made. With force it is killed first.
func (c *Containers) PodRemove(ctx context.Context, ref string, force bool) error {
	p, ct, err := c.holdPod(ctx, ref)
	if err != nil {
		return err
	}
	if p == nil {
		return c.Remove(ctx, string(ct.id), brig.RemoveOptions{Force: force})
	}
	defer p.lock.release()
	if !force {
		for _, ct := range c.crew(p) {
			if d := c.record(ct); d.State.Active() {
				return errs.New(errs.Conflict, "cannot remove pod %s: app %s is %s: stop the pod before removing or force remove", c.podRec(p).Name, d.App, d.State)
			}
		}
	}
	return c.destroyPod(context.WithoutCancel(ctx), p)
}

// removeByApp is docker rm of a pod's app: of the whole pod if there is no other app.
func (c *Containers) removeByApp(ctx context.Context, p *pod, ct *container, o brig.RemoveOptions) error {
	rec := c.podRec(p)
	if len(rec.Apps) > 1 {
		return c.belongs(c.record(ct), "it can't be removed by itself; brig pod rm "+rec.Name+" removes all of it")
	}
	if d := c.record(ct); d.State.Active() && !o.Force {
		return errs.New(errs.Conflict, "cannot remove container %q: container is %s: stop the container before removing or force remove", "/"+d.Name, d.State)
	}
	return c.PodRemove(ctx, rec.UUID(), o.Force)
}

// removeEnded removes a pod that removes itself, unless it has been started again. It belongs to c.work.
func (c *Containers) removeEnded(p *pod) {
	if p.lock.acquire(c.base) != nil {
		return // the next brigd does it
	}
	defer p.lock.release()
	c.mu.Lock()
	gone := p.gone
	c.mu.Unlock()
	if gone || !c.hasRun(p) {
		return
	}
	if err := c.destroyPod(context.WithoutCancel(c.base), p); err != nil {
		c.log.Error("remove a pod that ended", "pod", c.podRec(p).Name, "err", err)
	}
}

// destroyPod removes a pod, killing what runs of it: first it records that it has begun, so that the next brigd goes on with it; then go the apps,
// and with the pod's own record its name and volumes. Nothing but another removal can be done to a pod whose removal failed. The caller holds
// p's lock, or is alone.
func (c *Containers) destroyPod(ctx context.Context, p *pod) error {
	rec := c.podRec(p)
	if !rec.Removing {
		next := rec.Clone()
		next.Removing = true
		p.joining <- struct{}{} // an app that comes up now comes before
		err := c.savePod(ctx, p, next)
		p.joining.release()
		if err != nil {
			return err
		}
	}
	fault.Point("pod.removing")
	crew := c.crew(p)
	defer c.tellRemoved(crew)
	var failed []error
	for _, ct := range crew {
		failed = append(failed, errs.Wrap(c.removeApp(ctx, ct), "app %s", c.record(ct).App))
		fault.Point("pod.app.removed")
	}
	if err := errors.Join(failed...); err != nil {
		return errs.Wrap(err, "remove pod %s", rec.Name)
	}
	return c.forgetPod(ctx, p)
}

// tellRemoved wakes who waits for the removal of those that are gone.
func (c *Containers) tellRemoved(crew []*container) {
	for _, ct := range crew {
		c.mu.Lock()
		d, gone := ct.rec, ct.gone
		c.mu.Unlock()
		if gone {
			c.wake(ct, exitOf(d), brig.WaitRemoved)
		}
	}
}

func (c *Containers) removeApp(ctx context.Context, ct *container) error {
	c.mu.Lock()
	ct.removing = true // no policy restarts it
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		ct.removing = false
		c.mu.Unlock()
	}()
	if err := c.quiet(ctx, ct, true); err != nil {
		return err
	}
	defer ct.lock.release()
	c.mu.Lock()
	gone := ct.gone
	c.mu.Unlock()
	if gone {
		return nil
	}
	return c.destroy(ctx, ct, true)
}

// forgetPod removes a pod without apps.
func (c *Containers) forgetPod(ctx context.Context, p *pod) error {
	if err := c.volumes.acquire(ctx); err != nil {
		return err
	}
	defer c.volumes.release()
	rec := c.podRec(p)
	deletes := []brig.Record{{Kind: kindPod, Key: string(rec.ID)}, {Kind: kindName, Key: rec.Name}}
	var vols []*brig.Volume
	c.mu.Lock()
	for _, name := range rec.Volumes {
		if v := c.vols[name]; v != nil && len(c.volumeUsers(name, "")) == 0 { // somebody else may have come to use it
			vols = append(vols, v)
			deletes = append(deletes, brig.Record{Kind: kindVolume, Key: name})
		}
	}
	c.mu.Unlock()
	if err := c.cfg.Records.Put(ctx, nil, deletes); err != nil {
		return errs.Wrap(err, "remove pod %s", rec.Name)
	}
	fault.Point("pod.forgotten")
	c.mu.Lock()
	p.gone = true
	delete(c.pods, rec.UUID())
	c.mu.Unlock()
	c.release(rec.Name, rec.ID)
	return errs.Wrap(errors.Join(c.dropVolumes(ctx, vols), c.wipePod(p)), "remove pod %s", rec.Name)
}
