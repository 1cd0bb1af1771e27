package zfsstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/tarfs"
	gozfs "github.com/mistifyio/go-zfs/v4"
)

// zfsDriver keeps chains, containers and volumes as datasets; docs/design.md draws the layout. An image dataset grows from snapshot
// to snapshot; a second child of a layer, or one of a layer that is not the newest, is a clone.
type zfsDriver struct {
	dirs
	parent string // dataset
	status [][2]string

	mu   sync.Mutex
	tips map[brig.RID]int // newest layer's number in each image dataset
	// dirty image datasets must be rolled back before they grow: an unfinished layer may be in them.
	dirty map[brig.RID]bool
	grows map[brig.RID]bool // a layer is being made in place
}

func openZFS(ctx context.Context, c Config) (driver, error) {
	parent := c.ZFSParent
	if parent == "" {
		on, ok := zfsDatasetOf(c.Root)
		if !ok {
			return nil, needZFS(fmt.Errorf("%s does not lie on ZFS and no parent dataset is configured", c.Root))
		}
		sum := sha256.Sum256([]byte(c.Root))
		parent = on + "/brig-" + hex.EncodeToString(sum[:4])
	}
	d := &zfsDriver{
		dirs: dirs{c.Root, c.Log}, parent: parent,
		tips: map[brig.RID]int{}, dirty: map[brig.RID]bool{}, grows: map[brig.RID]bool{},
	}
	if err := d.layout(ctx); err != nil {
		return nil, err
	}
	return d, privateMount(d.path("mnt"))
}

// layout makes the datasets that hold the others. Those that are there stay as they are.
func (d *zfsDriver) layout(ctx context.Context) error {
	set, err := gozfs.GetDataset(d.parent)
	if err != nil {
		props := map[string]string{
			"mountpoint": "legacy", "canmount": "noauto", "atime": "off", "compression": "on", "com.sun:auto-snapshot": "false",
		}
		if set, err = gozfs.CreateFilesystem(d.parent, props); err != nil {
			return needZFS(err)
		}
	}
	d.status = [][2]string{{"Parent Dataset", d.parent}, {"Compression", set.Compression}}
	for _, kind := range []string{"i", "c", "v"} {
		name := d.parent + "/" + kind
		if _, err := gozfs.GetDataset(name); err == nil {
			continue
		}
		if err := zfs(ctx, "create", "-o", "mountpoint=legacy", "-o", "canmount=noauto", name); err != nil {
			return needZFS(err)
		}
	}
	return nil
}

func (d *zfsDriver) close() error                    { return releaseMount(d.path("mnt")) }
func (d *zfsDriver) describe() (string, [][2]string) { return "zfs", d.status }
func (d *zfsDriver) ds(kind string, r brig.RID) string {
	return d.parent + "/" + kind + "/" + string(r)
}

func (d *zfsDriver) snapshot(l layer) string { return d.ds("i", l.RID) + "@l" + strconv.Itoa(l.Snap) }

func (d *zfsDriver) load(ctx context.Context) ([]layer, map[brig.RID]brig.Digest, error) {
	list, err := zfsList(ctx, d.parent)
	if err != nil {
		return nil, nil, err
	}
	inv := take(list)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirty = inv.dirty
	for _, l := range inv.layers {
		d.tips[l.RID] = max(d.tips[l.RID], l.Snap)
	}
	return inv.layers, inv.roots, nil
}

// begin lets the parent's dataset grow if the parent is its newest layer and nobody else does, else it makes a new one.
func (d *zfsDriver) begin(ctx context.Context, rid brig.RID, lineage []layer) (*work, error) {
	w := &work{rid: rid, snap: 1, opts: tarfs.Options{Whiteouts: tarfs.Apply}, dir: d.path("w", string(rid))}
	err := os.Mkdir(w.dir, 0o711)
	switch {
	case err != nil:
	case len(lineage) == 0:
		w.ds = d.ds("i", rid)
		err = zfs(ctx, "create", "-o", "mountpoint=legacy", "-o", "canmount=noauto", w.ds)
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

// grow claims top's dataset; base is its snapshot, or "" if the dataset can't grow from there.
func (d *zfsDriver) grow(ctx context.Context, top layer) (base string, err error) {
	d.mu.Lock()
	free := d.tips[top.RID] == top.Snap && !d.grows[top.RID]
	dirty := d.dirty[top.RID]
	if free {
		d.grows[top.RID], d.dirty[top.RID] = true, true
	}
	d.mu.Unlock()
	if !free {
		return "", nil
	}
	if dirty {
		// Without -r this fails if a foreign snapshot is newer than ours; that one must not be lost, so the layer becomes a clone.
		if err := zfsRetry(ctx, "rollback", d.snapshot(top)); err != nil {
			d.release(top.RID, true)
			return "", ctx.Err()
		}
	}
	return d.snapshot(top), nil
}

func (d *zfsDriver) release(rid brig.RID, dirty bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.grows, rid)
	d.dirty[rid] = dirty
}

func (d *zfsDriver) unwork(ctx context.Context, w *work) error {
	if err := unmountDir(ctx, d.log, w.dir); err != nil {
		return err
	}
	if err := os.Remove(w.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// commit takes the snapshot, which is on disk with its properties and all it shows when zfs returns.
func (d *zfsDriver) commit(ctx context.Context, w *work, l layer) (layer, error) {
	l.RID, l.Snap = w.rid, w.snap
	if err := d.unwork(ctx, w); err != nil {
		return layer{}, err
	}
	args := append([]string{"snapshot"}, layerProps(l)...)
	if err := zfs(ctx, append(args, d.snapshot(l))...); err != nil {
		return layer{}, err
	}
	d.mu.Lock()
	d.tips[l.RID] = l.Snap
	d.mu.Unlock()
	d.release(l.RID, false)
	return l, nil
}

func (d *zfsDriver) abort(ctx context.Context, w *work) error {
	err := d.unwork(ctx, w)
	switch {
	case w.ds == "":
		return err
	case w.base != "":
		// A commit that failed late may have left its snapshot: it must not count.
		gone := zfs(ctx, "destroy", w.ds+"@l"+strconv.Itoa(w.snap))
		if errors.Is(gone, errGone) {
			gone = nil
		}
		back := zfsRetry(ctx, "rollback", w.base)
		d.release(w.rid, back != nil)
		return errors.Join(err, gone, back)
	}
	return errors.Join(err, d.destroy(ctx, w.ds))
}

// destroy removes a dataset with its own snapshots, foreign ones too, but never what was cloned from them (no -R).
func (d *zfsDriver) destroy(ctx context.Context, name string) error {
	err := zfsRetry(ctx, "destroy", "-r", name)
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

// drop destroys the layer's snapshot, deferred if somebody else cloned it, and the dataset if no layer is left in it.
func (d *zfsDriver) drop(ctx context.Context, l layer) error {
	err := zfsRetry(ctx, "destroy", d.snapshot(l))
	if errors.Is(err, errCloned) {
		err = zfs(ctx, "destroy", "-d", d.snapshot(l))
	}
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	list, err := zfsList(ctx, d.ds("i", l.RID))
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		d.log.Warn("a dropped layer's dataset could not be looked at; the next sweep will", "dataset", d.ds("i", l.RID), "err", err)
		return nil
	}
	tip := 0
	for _, e := range list {
		e.name = "i/" + string(l.RID) + e.name // "@l1": beneath itself
		if k, ok := e.layer(); ok {
			tip = max(tip, k.Snap)
		}
	}
	d.settle(ctx, l.RID, tip)
	return nil
}

// settle leaves an image dataset as its newest layer is, after a later one was dropped; without any layer the dataset goes.
func (d *zfsDriver) settle(ctx context.Context, rid brig.RID, tip int) {
	d.mu.Lock()
	d.tips[rid], d.dirty[rid] = tip, true
	if tip == 0 {
		delete(d.tips, rid)
		delete(d.dirty, rid)
	}
	d.mu.Unlock()
	if tip == 0 {
		if err := d.destroy(ctx, d.ds("i", rid)); err != nil {
			d.log.Warn("a dataset without layers could not be destroyed; the next sweep will try again", "dataset", d.ds("i", rid), "err", err)
		}
		return
	}
	// Growing from the tip rolls back, which gives the dropped layer's space back.
	base, err := d.grow(ctx, layer{RID: rid, Snap: tip})
	if err == nil && base != "" {
		d.release(rid, false)
	}
}

func (d *zfsDriver) clone(ctx context.Context, id brig.RID, lineage []layer, size int64) error {
	opts := quota(size)
	if len(lineage) > 0 {
		return d.cloneOf(ctx, lineage[0], d.ds("c", id), opts...)
	}
	args := append([]string{"create", "-o", "mountpoint=legacy", "-o", "canmount=noauto"}, opts...)
	return zfs(ctx, append(args, d.ds("c", id))...)
}

// quota counts what a clone adds to its origin.
func quota(size int64) []string {
	if size == 0 {
		return nil
	}
	return []string{"-o", "quota=" + strconv.FormatInt(size, 10)}
}

// show mounts a dataset or snapshot on dir, which it makes; what is mounted there stays.
func (d *zfsDriver) show(ctx context.Context, name, dir string) error {
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if m, err := isMount(dir); err != nil || m {
		return err
	}
	return mountZFS(ctx, name, dir)
}

// hide undoes show.
func (d *zfsDriver) hide(ctx context.Context, dir string) error {
	if err := unmountDir(ctx, d.log, dir); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *zfsDriver) mount(ctx context.Context, id brig.RID, _ []layer) (string, error) {
	dir := d.path("mnt", string(id))
	return dir, d.show(ctx, d.ds("c", id), dir)
}

func (d *zfsDriver) unmount(ctx context.Context, id brig.RID) error {
	return d.hide(ctx, d.path("mnt", string(id)))
}

func (d *zfsDriver) remove(ctx context.Context, id brig.RID) error {
	if err := d.unmount(ctx, id); err != nil {
		return err
	}
	return d.destroy(ctx, d.ds("c", id))
}

// changes compares the trees: zfs diff would name paths as of its own mount, and leaves changes of attributes out on some versions.
func (d *zfsDriver) changes(ctx context.Context, id brig.RID, lineage []layer) (_ []brig.Change, err error) {
	old, now := d.path("e"), d.path("mnt", string(id))
	if mounted, err := isMount(now); err != nil {
		return nil, err
	} else if !mounted {
		if err := d.show(ctx, d.ds("c", id), now); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, d.hide(context.WithoutCancel(ctx), now)) }()
	}
	if len(lineage) > 0 {
		old = d.path("w", string(id))
		defer func() { err = errors.Join(err, d.hide(context.WithoutCancel(ctx), old)) }()
		if err := d.show(ctx, d.snapshot(lineage[0]), old); err != nil {
			return nil, err
		}
	}
	return compare(ctx, old, now, false)
}

// makeVolume leaves the volume mounted: containers bind it from there.
func (d *zfsDriver) makeVolume(ctx context.Context, id brig.RID, size int64) (string, error) {
	dir := d.path("v", string(id))
	if m, err := isMount(dir); err == nil && m {
		return dir, nil
	}
	if _, err := gozfs.GetDataset(d.ds("v", id)); err != nil {
		args := append([]string{"create", "-o", "mountpoint=legacy", "-o", "canmount=noauto"}, quota(size)...)
		if err := zfs(ctx, append(args, d.ds("v", id))...); err != nil {
			return "", err
		}
	}
	if err := d.show(ctx, d.ds("v", id), dir); err != nil {
		return "", err
	}
	return dir, nil
}

func (d *zfsDriver) removeVolume(ctx context.Context, id brig.RID) error {
	if err := d.hide(ctx, d.path("v", string(id))); err != nil {
		return err
	}
	return d.destroy(ctx, d.ds("v", id))
}

// sweep destroys datasets that keep doesn't know, and mounts living volumes again after a reboot.
func (d *zfsDriver) sweep(ctx context.Context, k keep) error {
	all := []error{d.sweepMounts(ctx, k)}
	list, err := zfsList(ctx, d.parent)
	if err != nil {
		return errors.Join(append(all, err)...)
	}
	inv := take(list)
	for kind, known := range map[string]map[brig.RID]bool{"i": k.layers, "c": k.roots, "v": k.volumes} {
		for _, rid := range inv.sets[kind] {
			switch {
			case k.active(rid):
			case known[rid] && kind == "v":
				all = append(all, d.show(ctx, d.ds("v", rid), d.path("v", string(rid))))
			case known[rid]:
			case kind == "v":
				all = append(all, d.removeVolume(ctx, rid))
			default:
				d.log.Info("sweeping what no record names", "dataset", d.ds(kind, rid))
				all = append(all, d.destroy(ctx, d.ds(kind, rid)))
			}
		}
	}
	return errors.Join(append(all, d.sweepDirs(ctx, keep{volumes: k.volumes, active: k.active}))...)
}
