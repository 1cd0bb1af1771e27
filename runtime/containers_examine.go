package runtime

import (
	"context"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// WhileIdle calls do if the container whose root file system is rid has no process, and nobody changes it or looks into it now; nobody can
// before do returns. idle is false if that isn't so. NotFound: no such container.
func (c *Containers) WhileIdle(rid brig.RID, do func() error) (idle bool, err error) {
	ct := c.owner(rid)
	if ct == nil {
		return false, errs.New(errs.NotFound, "no container has the root file system %s", rid)
	}
	select {
	case ct.lock <- struct{}{}:
	default:
		return false, nil
	}
	defer ct.lock.release()
	c.mu.Lock()
	busy := ct.gone || ct.rec.State.Active() || ct.rec.State.HasProcess() || ct.users > 0
	c.mu.Unlock()
	if busy {
		return false, nil
	}
	return true, do()
}

func (c *Containers) owner(rid brig.RID) *container {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ct := range c.byID {
		if ct.rec.RootFS == rid {
			return ct
		}
	}
	return nil
}

// NewRoot gives a container that doesn't run a new root file system from its image, in the place of one that is lost.
func (c *Containers) NewRoot(ctx context.Context, rid brig.RID) error {
	idle, err := c.WhileIdle(rid, func() error {
		if err := c.cfg.RootFS.Remove(ctx, rid); err != nil {
			return err
		}
		return c.cfg.RootFS.Prepare(ctx, rid, c.record(c.owner(rid)).Chain, 0)
	})
	if err == nil && !idle {
		err = errs.New(errs.Conflict, "the container runs")
	}
	return err
}

// NewVolume makes the data of a volume again, empty, in the place of data that is lost.
func (c *Containers) NewVolume(ctx context.Context, name string) error {
	if err := c.volumes.acquire(ctx); err != nil {
		return err
	}
	defer c.volumes.release()
	c.mu.Lock()
	v := c.vols[name]
	c.mu.Unlock()
	if v == nil {
		return nil
	}
	_, err := c.cfg.VolumeData.MakeVolume(ctx, v.Dataset, 0)
	return err
}
