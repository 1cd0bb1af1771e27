package zfsstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/fault"
	gozfs "github.com/mistifyio/go-zfs/v4"
)

// zfsDriver keeps chains, containers and volumes as datasets; docs/design.md draws the layout. An image dataset grows from snapshot
// to snapshot; a second child of a layer, or one of a layer that is not the newest, is a clone.
type zfsDriver struct {
	dirs
	parent string // dataset
	status [][2]string
	found  []entry // what was there when the store was opened; load takes it

	mu    sync.Mutex
	snaps map[brig.RID][]int // numbers of the layers in each image dataset, ascending
	// clean image datasets are as their newest layer is. All others are rolled back before they grow: an unfinished layer may be in
	// them. That can't be read from zfs: what was written last is not yet in the numbers that zfs list gives.
	clean map[brig.RID]bool
	grows map[brig.RID]bool // a layer is being made in place
	late  map[string]bool   // datasets that couldn't be destroyed yet; see retire

	viewing chan struct{} // has room for the one who mounts snapshots: FreeBSD mounts each once
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
		dirs: dirs{root: c.Root, log: c.Log}, parent: parent,
		snaps: map[brig.RID][]int{}, clean: map[brig.RID]bool{}, grows: map[brig.RID]bool{}, late: map[string]bool{}, viewing: make(chan struct{}, 1),
	}
	if err := d.layout(ctx); err != nil {
		return nil, needZFS(err)
	}
	return d, privateMount(d.path("mnt"))
}

// layout makes the datasets that hold the others. Those that are there stay as they are. It is the only one to list them all.
func (d *zfsDriver) layout(ctx context.Context) error {
	list, err := zfsList(ctx, d.parent)
	if errors.Is(err, errGone) {
		err = zfs(ctx, "create", "-o", "mountpoint=legacy", "-o", "canmount=noauto", "-o", "atime=off", "-o", "compression=on",
			"-o", "com.sun:auto-snapshot=false", d.parent)
	}
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, e := range list {
		there[e.name] = true
	}
	for _, kind := range []string{"i", "c", "v"} {
		if there[kind] {
			continue
		}
		if err := create(ctx, d.parent+"/"+kind, platformProps...); err != nil {
			return err
		}
	}
	// The list above has answered, so that this call, which takes no context, will.
	set, err := gozfs.GetDataset(d.parent)
	if err != nil {
		return err
	}
	pool, _, _ := strings.Cut(d.parent, "/")
	d.status = [][2]string{{"Zpool", pool}, {"Parent Dataset", d.parent}, {"Compression", set.Compression}}
	d.found = list
	return nil
}

// create makes a file system that is mounted by nobody but brig.
func create(ctx context.Context, name string, opts ...string) error {
	args := append([]string{"create", "-o", "mountpoint=legacy", "-o", "canmount=noauto"}, opts...)
	return zfs(ctx, append(args, name)...)
}

func (d *zfsDriver) close() error                    { return releaseMount(d.path("mnt")) }
func (d *zfsDriver) describe() (string, [][2]string) { return "zfs", d.status }
func (d *zfsDriver) ds(kind string, r brig.RID) string {
	return d.parent + "/" + kind + "/" + string(r)
}

func (d *zfsDriver) snapshot(l layer) string { return d.ds("i", l.RID) + "@l" + strconv.Itoa(l.Snap) }

func (d *zfsDriver) load(context.Context) ([]layer, map[brig.RID]brig.Digest, error) {
	inv := take(d.found)
	d.found = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range inv.layers {
		d.snaps[l.RID] = append(d.snaps[l.RID], l.Snap)
	}
	for _, list := range d.snaps {
		slices.Sort(list)
	}
	return inv.layers, inv.roots, nil
}

func (d *zfsDriver) clone(ctx context.Context, id brig.RID, lineage []layer, size int64) error {
	var err error
	if len(lineage) > 0 {
		err = d.cloneOf(ctx, lineage[0], d.ds("c", id), quota(size)...)
	} else {
		err = create(ctx, d.ds("c", id), quota(size)...)
	}
	if err != nil && ctx.Err() != nil { // zfs was killed, perhaps after it had been done
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		err = errors.Join(err, d.retire(ctx, d.ds("c", id)))
	}
	return err
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
	fault.Point("zfs.mountpoint")
	if err := mountZFS(ctx, name, dir); err != nil {
		return err
	}
	fault.Point("zfs.mounted")
	return nil
}

// hide undoes show. With the directory Linux takes away what other mount namespaces have mounted there (fs/namespace.c,
// detach_mounts), which would hold the dataset.
func (d *zfsDriver) hide(ctx context.Context, dir string) error {
	if err := unmountDir(ctx, d.log, dir); err != nil {
		return err
	}
	fault.Point("zfs.unmounted")
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *zfsDriver) mount(ctx context.Context, id brig.RID, _ []layer, _ bool) (string, error) {
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
	fault.Point("zfs.root.hidden")
	return d.retire(ctx, d.ds("c", id))
}

// changes compares the trees: zfs diff would name paths as of its own mount, and leaves changes of attributes out on some versions.
func (d *zfsDriver) changes(ctx context.Context, id brig.RID, lineage []layer) (_ []brig.Change, err error) {
	done, err := d.view(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
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
	if err := create(ctx, d.ds("v", id), quota(size)...); err != nil && !errors.Is(err, errExists) {
		return "", err
	}
	fault.Point("zfs.volume.made")
	if err := d.show(ctx, d.ds("v", id), dir); err != nil {
		return "", err
	}
	return dir, nil
}

func (d *zfsDriver) removeVolume(ctx context.Context, id brig.RID) error {
	if err := d.hide(ctx, d.path("v", string(id))); err != nil {
		return err
	}
	fault.Point("zfs.volume.hidden")
	return d.retire(ctx, d.ds("v", id))
}

// sweep destroys datasets that keep doesn't know, and mounts living volumes again after a reboot.
func (d *zfsDriver) sweep(ctx context.Context, k keep) error {
	all := []error{d.sweepMounts(ctx, k)}
	list, err := zfsList(ctx, d.parent)
	if err != nil {
		return errors.Join(append(all, err)...)
	}
	inv := take(list)
	var dead []string
	for _, kind := range []struct {
		name  string
		known map[brig.RID]bool
	}{{"c", k.roots}, {"v", k.volumes}, {"i", k.layers}} {
		for _, rid := range inv.sets[kind.name] {
			switch {
			case k.active(rid):
			case kind.known[rid] && kind.name == "v":
				all = append(all, d.show(ctx, d.ds("v", rid), d.path("v", string(rid))))
			case kind.known[rid]:
			default:
				d.log.Info("sweeping what no record names", "dataset", d.ds(kind.name, rid))
				if kind.name == "v" {
					all = append(all, d.hide(ctx, d.path("v", string(rid))))
				}
				dead = append(dead, d.ds(kind.name, rid))
			}
		}
	}
	all = append(all, d.destroyAll(ctx, dead))
	return errors.Join(append(all, d.sweepDirs(ctx, keep{volumes: k.volumes, active: k.active}))...)
}
