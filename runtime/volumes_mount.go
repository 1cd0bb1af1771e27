package runtime

import (
	"context"
	"errors"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// foreign lists d's volumes that show something mounted instead of data of their own, each once.
func (c *Containers) foreign(d *brig.Container) []*brig.Volume {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]bool{}
	var out []*brig.Volume
	for _, m := range d.Mounts {
		v := c.vols[m.Name]
		if m.Type != brig.MountVolume || v == nil || seen[m.Name] {
			continue
		}
		if _, ok := v.Mount(); ok {
			seen[m.Name] = true
			out = append(out, v)
		}
	}
	return out
}

// useVolumes mounts what d's volumes show, until leaveVolumes. On an error those that it did mount stay d's, for leaveVolumes. The caller
// holds the lock of d's container.
func (c *Containers) useVolumes(ctx context.Context, d *brig.Container) error {
	vols := c.foreign(d)
	if len(vols) == 0 {
		return nil
	}
	if err := c.volumes.acquire(ctx); err != nil {
		return err
	}
	defer c.volumes.release()
	for _, v := range vols {
		if err := c.mountVolume(ctx, v, d.ID); err != nil {
			return err
		}
	}
	return nil
}

// mountVolume mounts what v shows and makes user one of those for whom it stays. The caller holds the volumes lock.
func (c *Containers) mountVolume(ctx context.Context, v *brig.Volume, user brig.ID) error {
	m, _ := v.Mount()
	if err := c.cfg.VolumeData.MountVolume(ctx, v.Dataset, m); err != nil {
		return errs.Wrap(err, "error while mounting volume '%s'", v.Mountpoint)
	}
	c.keepVolume(v.Name, user)
	return nil
}

// keepVolume makes user one of those for whom a volume stays mounted. The caller holds the volumes lock.
func (c *Containers) keepVolume(name string, user brig.ID) {
	if c.shown[name] == nil {
		c.shown[name] = map[brig.ID]bool{}
	}
	c.shown[name][user] = true
}

// leaveVolumes ends useVolumes: what nobody else uses is unmounted; every one is tried. The caller holds the lock of d's container.
func (c *Containers) leaveVolumes(ctx context.Context, d *brig.Container) error {
	vols := c.foreign(d)
	if len(vols) == 0 {
		return nil
	}
	if err := c.volumes.acquire(ctx); err != nil {
		return err
	}
	defer c.volumes.release()
	var all []error
	for _, v := range vols {
		all = append(all, c.unmountVolume(ctx, v, d.ID))
	}
	return errors.Join(all...)
}

// unmountVolume undoes mountVolume. The caller holds the volumes lock.
func (c *Containers) unmountVolume(ctx context.Context, v *brig.Volume, user brig.ID) error {
	users := c.shown[v.Name]
	if !users[user] {
		return nil
	}
	if delete(users, user); len(users) > 0 {
		return nil
	}
	delete(c.shown, v.Name)
	return errs.Wrap(c.cfg.VolumeData.UnmountVolume(ctx, v.Dataset), "unmount volume %s", v.Name)
}

// keepVolumes notes that d, taken over from an earlier brigd, uses its volumes.
func (c *Containers) keepVolumes(ctx context.Context, d *brig.Container) error {
	vols := c.foreign(d)
	if len(vols) == 0 {
		return nil
	}
	if err := c.volumes.acquire(ctx); err != nil {
		return err
	}
	defer c.volumes.release()
	for _, v := range vols {
		c.keepVolume(v.Name, d.ID)
	}
	return nil
}

// sweepVolumes unmounts what an earlier brigd mounted and no container uses.
func (c *Containers) sweepVolumes(ctx context.Context) error {
	if err := c.volumes.acquire(ctx); err != nil {
		return err
	}
	defer c.volumes.release()
	vols, err := c.VolumeList(ctx)
	all := []error{err}
	for _, v := range vols {
		if _, ok := v.Mount(); ok && len(c.shown[v.Name]) == 0 {
			all = append(all, errs.Wrap(c.cfg.VolumeData.UnmountVolume(ctx, v.Dataset), "unmount volume %s", v.Name))
		}
	}
	return errors.Join(all...)
}
