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

func openCopy(c Config) driver { return &copying{dirs{c.Root, c.Log}} }

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

func (d *copying) mount(_ context.Context, id brig.RID, _ []layer) (string, error) {
	return d.path("c", string(id), "root"), nil
}

func (d *copying) unmount(context.Context, brig.RID) error { return nil }

func (d *copying) remove(_ context.Context, id brig.RID) error { return d.discard("c", id) }

func (d *copying) changes(ctx context.Context, id brig.RID, lineage []layer) ([]brig.Change, error) {
	old := d.path("e")
	if len(lineage) > 0 {
		old = d.diff(lineage[0])
	}
	return compare(ctx, old, d.path("c", string(id), "root"), false)
}

func (d *copying) makeVolume(ctx context.Context, id brig.RID, size int64) (string, error) {
	return d.dirs.makeVolume(ctx, id, size, "copy")
}

func (d *copying) sweep(ctx context.Context, k keep) error { return d.sweepDirs(ctx, k) }
