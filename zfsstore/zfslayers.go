package zfsstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/moby/sys/mountinfo"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/tarfs"
)

// begin lets the parent's dataset grow if the parent is its newest layer and nobody else does, else it makes a new one.
func (d *zfsDriver) begin(ctx context.Context, rid brig.RID, p *parent) (*work, error) {
	lineage, err := p.lineage(ctx)
	if err != nil {
		return nil, err
	}
	w := &work{rid: rid, snap: 1, opts: tarfs.Options{Whiteouts: tarfs.Apply}, dir: d.path("w", string(rid))}
	err = os.Mkdir(w.dir, 0o711)
	switch {
	case err != nil:
	case len(lineage) == 0:
		w.ds = d.ds("i", rid)
		err = create(ctx, w.ds)
	default:
		top := lineage[0]
		w.snap = top.Snap + 1
		if w.base, err = d.grow(ctx, top); err == nil && w.base != "" {
			w.rid, w.ds = top.RID, d.ds("i", top.RID)
		} else if err == nil {
			w.ds = d.ds("i", rid)
			err = d.cloneOf(ctx, top, w.ds)
		}
	}
	if err == nil {
		fault.Point("zfs.layer.made")
		err = mountZFS(ctx, w.ds, w.dir)
	}
	if err == nil && len(lineage) == 0 {
		err = plainRoot(w.dir)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		return nil, errors.Join(err, d.abort(ctx, w))
	}
	return w, nil
}

// cloneOf never passes -p: with it, an existing target is success and nothing is cloned.
func (d *zfsDriver) cloneOf(ctx context.Context, l layer, name string, opts ...string) error {
	args := append([]string{"clone", "-o", "mountpoint=legacy", "-o", "canmount=noauto"}, opts...)
	return zfs(ctx, append(args, d.snapshot(l), name)...)
}

// tip is the number of a dataset's newest layer, 0 for none. The caller holds mu.
func (d *zfsDriver) tip(rid brig.RID) int {
	if list := d.snaps[rid]; len(list) > 0 {
		return list[len(list)-1]
	}
	return 0
}

// grow claims top's dataset; base is its snapshot, or "" if the dataset can't grow from there.
func (d *zfsDriver) grow(ctx context.Context, top layer) (base string, err error) {
	d.mu.Lock()
	free := d.tip(top.RID) == top.Snap && !d.grows[top.RID]
	clean := d.clean[top.RID]
	if free {
		d.grows[top.RID] = true
		delete(d.clean, top.RID)
	}
	d.mu.Unlock()
	if !free {
		return "", nil
	}
	if !clean {
		if err := d.reclaim(ctx, top.RID); err != nil {
			d.release(top.RID, false)
			return "", err
		}
		// Without -r this fails if a newer snapshot is there that is no layer. A foreign one must not be lost, and one that goes as soon
		// as its last clone does can't: the layer becomes a clone.
		if err := zfsRetry(ctx, "rollback", d.snapshot(top)); err != nil {
			d.release(top.RID, false)
			return "", ctx.Err()
		}
	}
	return d.snapshot(top), nil
}

// reclaim unmounts an image's dataset where a process that was killed has left it: FreeBSD mounts a dataset in one place alone.
func (d *zfsDriver) reclaim(ctx context.Context, rid brig.RID) error {
	ds, work := d.ds("i", rid), d.path("w")
	left, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.Source != ds || filepath.Dir(m.Mountpoint) != work, false
	})
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	for _, m := range left {
		if err := unmountDir(ctx, d.log, m.Mountpoint); err != nil {
			return err
		}
	}
	return nil
}

func (d *zfsDriver) release(rid brig.RID, clean bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.grows, rid)
	if clean {
		d.clean[rid] = true
	}
}

func (d *zfsDriver) unwork(ctx context.Context, w *work) error {
	if err := unmountDir(ctx, d.log, w.dir); err != nil {
		return err
	}
	fault.Point("zfs.work.unmounted")
	if err := os.Remove(w.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// commit takes the snapshot, which is on disk with its properties and all it shows when zfs returns. It is taken while the dataset is
// mounted: all that was written is in it, and unmounting a dataset that has been written waits for the pool a second time.
func (d *zfsDriver) commit(ctx context.Context, w *work, l layer) (layer, error) {
	l.RID, l.Snap = w.rid, w.snap
	args := append([]string{"snapshot"}, layerProps(l)...)
	err := zfs(ctx, append(args, d.snapshot(l))...)
	w.taken = !errors.Is(err, errExists)
	if err != nil {
		return layer{}, err
	}
	fault.Point("zfs.layer.taken")
	if err := d.unwork(ctx, w); err != nil {
		return layer{}, err
	}
	d.mu.Lock()
	d.snaps[l.RID] = append(d.snaps[l.RID], l.Snap)
	d.mu.Unlock()
	d.release(l.RID, true)
	return l, nil
}

func (d *zfsDriver) unsynced() string { return "" }

func (d *zfsDriver) abort(ctx context.Context, w *work) error {
	err := d.unwork(ctx, w)
	switch {
	case w.ds == "":
		return err
	case w.base != "":
		var gone error
		if w.taken { // a commit that failed late may have left its snapshot: it must not count
			if gone = zfs(ctx, "destroy", w.ds+"@l"+strconv.Itoa(w.snap)); errors.Is(gone, errGone) {
				gone = nil
			}
		}
		back := zfsRetry(ctx, "rollback", w.base)
		d.release(w.rid, back == nil)
		return errors.Join(err, gone, back)
	}
	return errors.Join(err, d.destroy(ctx, w.ds))
}

// drop destroys the layer's snapshot, deferred if somebody else cloned it, and the dataset if no layer is left in it.
func (d *zfsDriver) drop(ctx context.Context, l layer) error {
	d.retry(ctx)
	err := zfsRetry(ctx, "destroy", d.snapshot(l))
	if errors.Is(err, errCloned) {
		err = zfs(ctx, "destroy", "-d", d.snapshot(l))
	}
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	fault.Point("zfs.layer.dropped")
	d.mu.Lock()
	d.snaps[l.RID] = slices.DeleteFunc(d.snaps[l.RID], func(n int) bool { return n == l.Snap })
	newest, tip := d.tip(l.RID) < l.Snap, d.tip(l.RID)
	if newest {
		delete(d.clean, l.RID)
	}
	if tip == 0 {
		delete(d.snaps, l.RID)
	}
	d.mu.Unlock()
	switch {
	case tip == 0:
		return d.retire(ctx, d.ds("i", l.RID))
	case newest:
		d.shrink(ctx, layer{RID: l.RID, Snap: tip})
	}
	return nil
}

// shrink leaves an image dataset as its newest layer is, which gives back the space of the one that was dropped.
func (d *zfsDriver) shrink(ctx context.Context, top layer) {
	if base, err := d.grow(ctx, top); err == nil && base != "" {
		d.release(top.RID, true)
	}
}

// destroy removes a dataset with its own snapshots and what lies beneath it, foreign ones too, but never what was cloned from them (no -R).
func (d *zfsDriver) destroy(ctx context.Context, name string) error {
	err := zfsRetry(ctx, "destroy", "-r", name)
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.late, name)
	return nil
}

// retire destroys a dataset, now or later: what a process or another mount namespace holds open, or what somebody cloned, is tried again
// whenever something else is destroyed, and by the next sweep, which finds it because no record names it.
func (d *zfsDriver) retire(ctx context.Context, name string) error {
	d.retry(ctx)
	err := d.destroy(ctx, name)
	if !errors.Is(err, errBusy) && !errors.Is(err, errCloned) {
		return err
	}
	d.log.Warn("a dataset can't be destroyed yet; it will be tried again", "dataset", name, "err", err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.late[name] = true
	return nil
}

// reap tries what had to wait, until no attempt helps another one.
func (d *zfsDriver) reap(ctx context.Context, active func(brig.RID) bool) (left int, err error) {
	for before := -1; ; before = left {
		d.retry(ctx)
		d.mu.Lock()
		left = len(d.late)
		d.mu.Unlock()
		if left == 0 || left == before || ctx.Err() != nil {
			break
		}
	}
	more, err := d.dirs.reap(ctx, active)
	return left + more, err
}

// retry tries once to destroy what had to wait. Containers stand before the images that they were cloned from.
func (d *zfsDriver) retry(ctx context.Context) {
	d.mu.Lock()
	names := slices.Sorted(maps.Keys(d.late))
	d.mu.Unlock()
	for _, name := range names {
		if err := zfs(ctx, "destroy", "-r", name); err == nil || errors.Is(err, errGone) {
			d.mu.Lock()
			delete(d.late, name)
			d.mu.Unlock()
		}
	}
}

// destroyAll destroys datasets of which some may be clones of others: it goes round as long as that helps.
func (d *zfsDriver) destroyAll(ctx context.Context, names []string) error {
	for {
		var left []string
		var all []error
		for _, name := range names {
			if err := d.destroy(ctx, name); err != nil {
				left, all = append(left, name), append(all, err)
			}
		}
		if len(left) == 0 || len(left) == len(names) {
			return errors.Join(all...)
		}
		names = left
	}
}

func (d *zfsDriver) stored(ctx context.Context) (stored, error) {
	out := stored{rids: map[string][]brig.RID{}}
	list, err := zfsList(ctx, d.parent)
	inv := take(list)
	out.layers = inv.layers
	for kind, set := range map[string]string{brig.StoredLayer: "i", brig.StoredContainer: "c", brig.StoredVolume: "v"} {
		out.rids[kind] = inv.sets[set]
	}
	for kind, dir := range map[string]string{brig.StoredWork: "w", brig.StoredMount: "mnt"} {
		ids, e := d.rids(dir)
		out.rids[kind], err = ids, errors.Join(err, e)
	}
	return out, err
}

// scrapLayer destroys an image dataset only if it holds no layer.
func (d *zfsDriver) scrapLayer(ctx context.Context, rid brig.RID) error {
	list, err := zfsList(ctx, d.parent)
	if err != nil {
		return err
	}
	for _, l := range take(list).layers {
		if l.RID == rid {
			return nil
		}
	}
	return d.retire(ctx, d.ds("i", rid))
}
