package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// adopters bounds how many containers are looked at at once.
const adopters = 8

// Users lists who uses which image.
func (c *Containers) Users() []ImageUser {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]ImageUser, 0, len(c.byID))
	for id, ct := range c.byID {
		out = append(out, ImageUser{ID: id, Name: ct.rec.Name, Image: ct.rec.Image, Running: ct.rec.State.Active()})
	}
	return out
}

// Recover takes over what an earlier brigd left, before anything else uses c: containers that still run are watched again,
// those that ended meanwhile end now, restart policies are applied, and jails, networks and directories that no record names are
// removed. It does as much as it can and joins the errors. Layers.Sweep is the caller's, with Live.
func (c *Containers) Recover(ctx context.Context) error {
	c.mu.Lock()
	all := make([]*container, 0, len(c.byID))
	for _, ct := range c.byID {
		all = append(all, ct)
	}
	c.mu.Unlock()
	c.countCrews()
	// Networks first: whatever ends from now on is detached by its watcher, which must find it there.
	restored := c.restoreNetworks(ctx)
	errList := make([]error, len(all))
	slots := make(chan struct{}, adopters)
	var looking sync.WaitGroup
	for i, ct := range all {
		slots <- struct{}{}
		looking.Go(func() {
			defer func() { <-slots }()
			errList[i] = errs.Wrap(c.adopt(ctx, ct), "recover container %s", ct.id.Short())
		})
	}
	looking.Wait()
	errList = append(errList, restored, c.settlePods(ctx), c.sweepVolumes(ctx))
	if !c.cfg.KeepAll {
		errList = append(errList, c.sweep(ctx), c.sweepPods(ctx), errs.Wrap(c.cfg.Strays.Sweep(ctx), "sweep networks"))
		c.sweepIdentities(ctx)
	}
	for _, ct := range all { // before ends that were not seen are dealt with: their handlers may hold a container for long
		c.resume(ct)
	}
	close(c.whole)
	return errors.Join(errList...)
}

// adopt brings one record in line with what the kernel says.
func (c *Containers) adopt(ctx context.Context, ct *container) error {
	if err := ct.lock.acquire(ctx); err != nil {
		return err
	}
	d := c.record(ct)
	if d.State == brig.Restarting || (d.State.HasProcess() && d.Handle == nil) {
		c.mu.Lock()
		ct.idle = make(chan struct{})
		c.mu.Unlock()
	}
	if d.Handle == nil || !d.State.HasProcess() {
		defer ct.lock.release()
		return c.rested(ctx, ct, d)
	}
	running, exit, err := c.cfg.Jails.Adopt(ctx, d.Handle)
	if err != nil {
		ct.lock.release()
		return err
	}
	ct.users = 1 // the run's own; its root is found when somebody asks
	if err := c.keepVolumes(ctx, d); err != nil {
		ct.lock.release()
		return err
	}
	c.mu.Lock()
	ct.idle = make(chan struct{})
	c.mu.Unlock()
	if running {
		defer ct.lock.release()
		c.running(ct, d, nil)
		c.publish(ctx, d)
		if d.State == brig.Paused {
			return c.cfg.Freezer.Pause(ctx, d.Handle)
		}
		// The record may be older than a pause that nobody was told of.
		if err := c.cfg.Freezer.Resume(ctx, d.Handle); err != nil {
			c.log.Warn("resume a container that may have been left frozen", "container", ct.id.Short(), "err", err)
		}
		return nil
	}
	ct.lock.release()
	end := func() { c.ended(ct, d.Handle, lostExit(exit, nil), true) }
	if len(d.Spec.PostStop) == 0 {
		end()
		return nil
	}
	c.work.Go(func() { // the handler takes what time it likes; brigd's start doesn't wait for it, and its jail is the run's to the sweep
		select {
		case <-c.whole:
			end()
		case <-c.base.Done():
		}
	})
	return nil
}

// rested deals with a record that has no process: a stale mount goes, a removal that failed is tried again.
func (c *Containers) rested(ctx context.Context, ct *container, d *brig.Container) error {
	if d.State == brig.Dead {
		return c.destroy(ctx, ct, false)
	}
	if d.State.HasProcess() { // and no handle: not written by us
		next := exited(d, lostExit(nil, nil))
		if err := move(next, brig.Exited); err != nil {
			return err
		}
		if err := c.commit(ctx, ct, next); err != nil {
			return err
		}
		c.rest(ct, next)
	}
	return errs.Wrap(c.cfg.RootFS.Unmount(ctx, d.RootFS), "unmount root file system")
}

// restoreNetworks names all containers that have a process according to their records.
func (c *Containers) restoreNetworks(ctx context.Context) error {
	var live []*brig.Container
	c.mu.Lock()
	for _, ct := range c.byID {
		if ct.rec.State.HasProcess() && c.pods[ct.rec.Pod] == nil {
			live = append(live, ct.rec.Clone())
		}
	}
	for _, p := range c.pods {
		if p.rec.Sandbox != nil {
			live = append(live, c.box(p.rec.Clone()))
		}
	}
	c.mu.Unlock()
	return errs.Wrap(c.cfg.Networks.Restore(ctx, live), "restore networks")
}

// sweep removes what no record names.
func (c *Containers) sweep(ctx context.Context) error {
	var handles []*brig.Handle
	known := map[string]bool{}
	c.mu.Lock()
	for id, ct := range c.byID {
		known[string(id)] = true
		if ct.rec.State.HasProcess() && ct.rec.Handle != nil {
			handles = append(handles, ct.rec.Handle)
		}
	}
	for _, p := range c.pods {
		known[string(p.id)] = true
	}
	c.mu.Unlock()
	err := errs.Wrap(c.cfg.Jails.Sweep(ctx, handles), "sweep jails")
	dir := filepath.Join(c.cfg.Root, "containers")
	entries, e := os.ReadDir(dir)
	if e != nil && !os.IsNotExist(e) {
		err = errors.Join(err, e)
	}
	for _, f := range entries {
		if !known[f.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, f.Name())))
		}
	}
	return err
}

// resume applies the restart policy to a container that doesn't run: a wait that was cut short goes on, and those that shall
// always run are started, but never one that a user stopped (Docker's "always" starts it again: so does ours) or never started.
// As with dockerd the restarts are counted anew.
func (c *Containers) resume(ct *container) {
	ct.lock <- struct{}{}
	defer ct.lock.release()
	cur, _, halt := c.view(ct)
	c.mu.Lock()
	stopped := ct.stopped
	c.mu.Unlock()
	p := cur.Spec.Restart.Name
	switch {
	case cur.State == brig.Restarting && halt == nil:
		next := cur.Clone()
		next.RestartCount = 0
		c.show(ct, next)
		c.restartAfter(ct, firstBackoff)
	case cur.State == brig.Exited && !cur.StartedAt.IsZero() && (p == "always" || (p == "unless-stopped" && !stopped)):
		next := cur.Clone()
		if err := move(next, brig.Restarting); err != nil {
			return
		}
		next.RestartCount = 0
		c.mu.Lock()
		ct.stopped = false
		ct.idle = make(chan struct{})
		ct.rec = next
		c.mu.Unlock()
		c.restartAfter(ct, 0)
	}
}
