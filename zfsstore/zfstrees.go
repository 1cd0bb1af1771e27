package zfsstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/host"
)

// view waits until nobody else mounts snapshots.
func (d *zfsDriver) view(ctx context.Context) (done func(), err error) {
	select {
	case d.viewing <- struct{}{}:
		return func() { <-d.viewing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// adopt moves the container's dataset among the images' and takes a snapshot of it. The snapshot is the layer: without it the dataset is
// one that nobody names. What has been written is known only to the pool's next transaction group, and the move waits for that; so the
// numbers that it then has are exact. If nothing at all was written, nothing has changed; else nobody looks whether the tree differs, for
// that would mean to walk it.
func (d *zfsDriver) adopt(ctx context.Context, id brig.RID, lineage []layer, l layer) (_ layer, made bool, err error) {
	if len(lineage) == 0 { // an empty dataset has been written too, but then a walk meets nothing else than what is new
		if c, err := d.changes(ctx, id, nil); err != nil || len(c) == 0 {
			return layer{}, false, err
		}
	}
	if err := d.unmount(ctx, id); err != nil {
		return layer{}, false, err
	}
	fault.Point("zfs.tree.hidden")
	name := d.ds("i", id)
	if err := zfsRetry(ctx, "rename", d.ds("c", id), name); err != nil {
		return layer{}, false, err
	}
	fault.Point("zfs.tree.moved")
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
			defer cancel()
			err = errors.Join(err, d.retire(ctx, name))
		}
	}()
	written, size, err := growth(ctx, name)
	if err != nil {
		return layer{}, false, err
	}
	if written == 0 && len(lineage) > 0 {
		return layer{}, false, d.retire(ctx, name)
	}
	l.RID, l.Snap, l.Size = id, 1, size
	if err := zfs(ctx, append(append([]string{"snapshot"}, layerProps(l)...), d.snapshot(l))...); err != nil {
		return layer{}, false, err
	}
	fault.Point("zfs.tree.taken")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.snaps[id] = []int{l.Snap}
	d.clean[id] = true
	return l, true, nil
}

// growth returns what a dataset has that the snapshot it was cloned from has not: the bytes that were written, and how many they are
// uncompressed, with the file system's own.
func growth(ctx context.Context, name string) (written, logical int64, err error) {
	out, err := host.Run(ctx, "zfs", "get", "-H", "-p", "-o", "property,value", "written,logicalused", name)
	if err != nil {
		return 0, 0, zfsError(err)
	}
	return parseGrowth(out)
}

// parseGrowth reads zfs get -Hp -o property,value: one line each, in whatever order.
func parseGrowth(out []byte) (written, logical int64, err error) {
	got := map[string]int64{}
	for line := range bytes.Lines(out) {
		f := bytes.Fields(line)
		if len(f) != 2 {
			return 0, 0, fmt.Errorf("zfs get: %d columns in %q, want 2", len(f), line)
		}
		n, err := strconv.ParseInt(string(f[1]), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("zfs get: %q is no number of bytes", line)
		}
		got[string(f[0])] = n
	}
	written, ok := got["written"]
	logical, ok2 := got["logicalused"]
	if !ok || !ok2 {
		return 0, 0, fmt.Errorf("zfs get: written or logicalused is missing in %q", out)
	}
	return written, logical, nil
}

// reveal mounts the layer's snapshot, and the one beneath it, and compares the trees.
func (d *zfsDriver) reveal(ctx context.Context, at, below brig.RID, lineage []layer, use func(string, []brig.Change) error) (err error) {
	done, err := d.view(ctx)
	if err != nil {
		return err
	}
	defer done()
	dir, old := d.path("w", string(at)), d.path("e")
	defer func() { err = errors.Join(err, d.hide(context.WithoutCancel(ctx), dir)) }()
	if err := d.show(ctx, d.snapshot(lineage[0]), dir); err != nil {
		return err
	}
	if len(lineage) > 1 {
		old = d.path("w", string(below))
		defer func() { err = errors.Join(err, d.hide(context.WithoutCancel(ctx), old)) }()
		if err := d.show(ctx, d.snapshot(lineage[1]), old); err != nil {
			return err
		}
	}
	changes, err := compare(ctx, old, dir, false)
	if err != nil {
		return err
	}
	return use(dir, changes)
}
