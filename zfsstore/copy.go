package zfsstore

import (
	"context"
	"errors"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/erase"
	"github.com/brigd/brig/internal/tarfs"
)

// copying is the last resort: every layer holds the whole tree, every container is a full copy. Blocks are shared where the file
// system can (reflinks), which makes it cheap on XFS and Btrfs.
type copying struct{ dirs }

func openCopy(c Config) driver { return &copying{dirs{root: c.Root, log: c.Log}} }

func (d *copying) describe() (string, [][2]string) {
	return "copy", [][2]string{{"Backing Filesystem", backing(d.root)}}
}

func (d *copying) close() error { return nil }

func (d *copying) begin(ctx context.Context, rid brig.RID, p *parent) (*work, error) {
	lineage, err := p.lineage(ctx)
	if err != nil {
		return nil, err
	}
	w := &work{rid: rid, opts: tarfs.Options{Whiteouts: tarfs.Apply}}
	if w.dir, err = d.newWork(rid, "diff"); err == nil && len(lineage) > 0 {
		err = tarfs.Copy(ctx, w.dir, d.diff(lineage[0]))
	}
	if err != nil {
		return nil, errors.Join(err, d.abort(ctx, w))
	}
	return w, nil
}

func (d *copying) clone(ctx context.Context, id brig.RID, lineage []layer, size int64) error {
	if size != 0 {
		return noQuota("copy")
	}
	dir, err := d.newWork(id, "root")
	if err == nil && len(lineage) > 0 {
		err = tarfs.Copy(ctx, dir, d.diff(lineage[0]))
	}
	if err == nil {
		err = d.place(id, lineage)
	}
	if err != nil {
		return errors.Join(err, erase.All(d.path("w", string(id))))
	}
	return nil
}

func (d *copying) mount(_ context.Context, id brig.RID, _ []layer, _ bool) (string, error) {
	return d.path("c", string(id), "root"), nil
}

func (d *copying) unmount(context.Context, brig.RID) error { return nil }

func (d *copying) remove(_ context.Context, id brig.RID) error { return d.discard("c", id) }

func (d *copying) changes(ctx context.Context, id brig.RID, lineage []layer) ([]brig.Change, error) {
	return compare(ctx, d.tree(lineage), d.path("c", string(id), "root"), false)
}

// tree is what a lineage shows.
func (d *copying) tree(lineage []layer) string {
	if len(lineage) == 0 {
		return d.path("e")
	}
	return d.diff(lineage[0])
}

func (d *copying) adopt(ctx context.Context, id brig.RID, lineage []layer, l layer) (layer, bool, error) {
	changes, err := d.changes(ctx, id, lineage)
	if err != nil || len(changes) == 0 {
		return layer{}, false, err
	}
	return d.dirs.adopt(ctx, id, "root", changes, l)
}

func (d *copying) reveal(ctx context.Context, _, _ brig.RID, lineage []layer, use func(string, []brig.Change) error) error {
	dir := d.tree(lineage)
	changes, err := compare(ctx, d.tree(lineage[1:]), dir, false)
	if err != nil {
		return err
	}
	return use(dir, changes)
}

func (d *copying) makeVolume(ctx context.Context, id brig.RID, size int64) (string, error) {
	return d.dirs.makeVolume(ctx, id, size, "copy")
}

func (d *copying) sweep(ctx context.Context, k keep) error { return d.sweepDirs(ctx, k) }
