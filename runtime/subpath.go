package runtime

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// showSubpaths mounts each subpath of a volume that d asks for on a place of its own and has j's mounts come from there: the paths in a volume
// may be changed by who else uses it, until the container has its mount. The places are needed until j's process runs; then hide takes
// them away, always.
func (c *Containers) showSubpaths(ctx context.Context, d *brig.Container, j *brig.Jail) (hide func() error, err error) {
	var places []brig.RID
	hide = func() error {
		var all []error
		for _, id := range places {
			all = append(all, c.cfg.VolumeData.RemoveVolume(context.WithoutCancel(ctx), id))
			c.unhide(id)
		}
		return errs.Wrap(errors.Join(all...), "unmount the subpaths of volumes")
	}
	for _, p := range d.Mounts {
		sub := asked(&d.Spec, p.Target).Subpath
		i := slices.IndexFunc(j.Mounts, func(m brig.JailMount) bool { return m.Target == p.Target })
		if sub == "" || p.Type != brig.MountVolume || i < 0 {
			continue
		}
		id := brig.NewRID()
		c.hide(id, true)
		places = append(places, id)
		place, err := c.showSubpath(ctx, id, p, sub)
		switch {
		case errs.Is(err, errs.NotImplemented): // the jailer finds it
			j.Mounts[i].Source, j.Mounts[i].Sub = p.Source, sub
		case err != nil:
			return hide, errs.Wrap(err, "subpath %s of volume %s", sub, p.Name)
		default:
			j.Mounts[i].Source = place
		}
	}
	return hide, nil
}

// showSubpath mounts sub of the volume at p on the mount point of id: exactly the directory that was opened, whatever has its name then. NotImplemented
// where that place could not be taken away as long as a jail has a mount of it.
func (c *Containers) showSubpath(ctx context.Context, id brig.RID, p brig.MountPoint, sub string) (string, error) {
	root, err := os.OpenRoot(p.Source)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := root.OpenFile(sub, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", errs.As(errs.Invalid, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		return "", errs.New(errs.Invalid, "it is not a directory")
	}
	place, err := c.cfg.VolumeData.MakeMountPoint(ctx, id)
	if err != nil {
		return "", err
	}
	return place, c.cfg.VolumeData.MountVolume(ctx, id, brig.VolumeMount{Dir: f})
}
