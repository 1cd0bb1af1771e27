package runtime

import (
	"context"
	"errors"
	"os"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/undo"
)

// joined is where a container is when it has joined its network.
type joined struct {
	brig.Attachment
	box     *brig.Container // its pod, with the endpoints of now; nil: it is one by itself
	sandbox *brig.Sandbox   // what it shares with others of its pod
}

// join gives a container that starts its network: one of its own, or its pod's, which the first app to come up raises.
func (c *Containers) join(ctx context.Context, next, owner *brig.Container) (joined, error) {
	p := c.podOf(next)
	if p == nil {
		var h *brig.Handle
		if owner != nil {
			h = owner.Handle
		}
		att, err := c.cfg.Networks.Attach(ctx, next, h)
		return joined{Attachment: att}, err
	}
	rec, err := c.enterPod(ctx, p, next.ID)
	if err != nil {
		return joined{}, err
	}
	return joined{brig.Attachment{Netns: rec.Sandbox.Netns, Endpoints: appEndpoints(rec, next)}, c.box(rec), rec.Sandbox}, nil
}

// part undoes join. Idempotent.
func (c *Containers) part(ctx context.Context, d *brig.Container) error {
	if p := c.podOf(d); p != nil {
		return c.leavePod(ctx, p, d.ID)
	}
	return c.cfg.Networks.Detach(ctx, d.ID)
}

// enterPod counts who among those that keep the pod up; the first raises it.
func (c *Containers) enterPod(ctx context.Context, p *pod, who brig.ID) (*brig.Pod, error) {
	if err := p.joining.acquire(ctx); err != nil {
		return nil, err
	}
	defer p.joining.release()
	rec := c.podRec(p)
	if rec.Removing {
		return nil, errs.New(errs.Conflict, "pod %s is marked for removal and cannot be started", rec.Name)
	}
	if rec.Sandbox == nil {
		var err error
		if rec, err = c.raisePod(ctx, p, rec); err != nil {
			return nil, errs.Wrap(err, "pod %s", rec.Name)
		}
	}
	p.users[who] = true
	return rec, nil
}

// raisePod makes what the apps share, and records it: what no record names, the next start of brigd sweeps. The caller holds joining. On an error it returns rec.
func (c *Containers) raisePod(ctx context.Context, p *pod, rec *brig.Pod) (_ *brig.Pod, err error) {
	var u undo.Stack
	defer u.Run(ctx, &err)
	att, err := c.cfg.Networks.Attach(ctx, c.box(rec), nil)
	if err != nil {
		return rec, err
	}
	u.Push("detach network", func(ctx context.Context) error { return c.cfg.Networks.Detach(ctx, rec.ID) })
	for _, w := range att.Warnings {
		c.log.Warn("start with less than asked for", "pod", rec.Name, "warning", w)
	}
	fault.Point("pod.attached")
	next := rec.Clone()
	next.Endpoints = att.Endpoints
	next.Sandbox = &brig.Sandbox{ID: rec.ID, Hostname: rec.Spec.Hostname, ShmSize: rec.Spec.ShmSize, Netns: att.Netns}
	introduced := c.introducePod(ctx, next, &u)
	if err := c.cfg.Sandboxes.MakeSandbox(ctx, next.Sandbox); err != nil {
		return rec, err
	}
	u.Push("drop what the apps share", func(ctx context.Context) error { return c.cfg.Sandboxes.DropSandbox(ctx, rec.ID) })
	fault.Point("pod.made")
	if _, err := c.writeFiles(c.box(next), nil, nil); err != nil {
		return rec, err
	}
	if err := c.savePod(ctx, p, next); err != nil {
		return rec, err
	}
	introduced()
	fault.Point("pod.raised")
	u.Release()
	return next, nil
}

// leavePod takes who from those that keep the pod up; the last one lowers it. Idempotent.
func (c *Containers) leavePod(ctx context.Context, p *pod, who brig.ID) error {
	p.joining <- struct{}{}
	defer p.joining.release()
	if !p.users[who] {
		return nil
	}
	delete(p.users, who)
	if len(p.users) > 0 {
		return nil
	}
	err := c.lowerPod(ctx, p)
	if rec := c.podRec(p); rec.AutoRemove && !rec.Removing {
		c.work.Go(func() { c.removeEnded(p) })
	}
	return err
}

// lowerPod takes away what the apps shared; every part is tried. The caller holds joining.
func (c *Containers) lowerPod(ctx context.Context, p *pod) error {
	next := c.podRec(p).Clone()
	next.Sandbox = nil
	for name, ep := range next.Endpoints {
		next.Endpoints[name] = ep.Rest()
	}
	err := c.savePod(ctx, p, next)
	if err != nil { // the next brigd finds the pod up with no app up, and lowers it again
		c.showPod(p, next)
	}
	fault.Point("pod.lowered")
	err = errors.Join(err, c.withdrawPod(ctx, next), c.cfg.Sandboxes.DropSandbox(ctx, p.id), c.cfg.Networks.Detach(ctx, p.id))
	fault.Point("pod.dropped")
	return errs.Wrap(err, "pod %s", next.Name)
}

// appEndpoints are a pod's endpoints as one of its apps shows them: each published port is shown by the app that has it, or by the first one.
func appEndpoints(p *brig.Pod, d *brig.Container) map[string]brig.Endpoint {
	out := map[string]brig.Endpoint{}
	for name, ep := range p.Endpoints {
		var ports []brig.PortBinding
		for _, b := range ep.Ports {
			if p.PortOf(b.Port) == d.App {
				ports = append(ports, b)
			}
		}
		ep.Ports = ports
		out[name] = ep
	}
	return out
}

// countCrews has the apps that have a process, by their records, keep their pods up. It comes before anything is adopted.
func (c *Containers) countCrews() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ct := range c.byID {
		if p := c.pods[ct.rec.Pod]; p != nil && ct.rec.State.HasProcess() && ct.rec.Handle != nil {
			p.users[ct.id] = true
		}
	}
}

// settlePods lowers pods that are up with no app up, goes on with removals that had begun, and removes pods that shall go and have ended. It
// comes after everything has been adopted.
func (c *Containers) settlePods(ctx context.Context) error {
	c.mu.Lock()
	var all []*pod
	for _, p := range c.pods {
		all = append(all, p)
	}
	c.mu.Unlock()
	var failed []error
	for _, p := range all {
		p.lock <- struct{}{}
		p.joining <- struct{}{}
		if rec := c.podRec(p); rec.Sandbox != nil && len(p.users) == 0 {
			failed = append(failed, c.lowerPod(ctx, p))
		} else if rec.Sandbox != nil {
			c.publishPod(ctx, rec)
		}
		p.joining.release()
		if rec := c.podRec(p); rec.Removing {
			failed = append(failed, c.destroyPod(ctx, p))
		} else if rec.AutoRemove && c.hasRun(p) {
			c.work.Go(func() { c.removeEnded(p) })
		}
		p.lock.release()
	}
	return errors.Join(failed...)
}

// sweepPods removes what pods that are not up have on the host, but for those that no record names.
func (c *Containers) sweepPods(ctx context.Context) error {
	var live []brig.ID
	c.mu.Lock()
	for _, p := range c.pods {
		if p.rec.Sandbox != nil {
			live = append(live, p.id)
		}
	}
	c.mu.Unlock()
	return errs.Wrap(c.cfg.Sandboxes.SweepSandboxes(ctx, live), "sweep pods")
}

// wipePod deletes what a pod has on disk beside its apps.
func (c *Containers) wipePod(p *pod) error { return os.RemoveAll(c.dir(p.id)) }
