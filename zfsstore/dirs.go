package zfsstore

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/erase"
	"github.com/brigd/brig/internal/fault"
)

// dirs is what the drivers share that keep layers and containers as directories: each is made in w/ and renamed into place.
type dirs struct {
	root string
	log  *slog.Logger

	tombs sync.Map // RIDs in w/ whose deletion runs
}

func (d *dirs) path(parts ...string) string {
	return filepath.Join(append([]string{d.root}, parts...)...)
}
func (d *dirs) diff(l layer) string { return d.path("l", string(l.RID), "diff") }

// lowMount is the only name in w/<rid>/ where something is ever mounted, besides w/<rid> itself.
const lowMount = "low"

// newWork makes w/<rid>/<name>, an empty root directory whose time does not depend on now.
func (d *dirs) newWork(rid brig.RID, name string) (string, error) {
	dir := d.path("w", string(rid), name)
	if err := erase.All(d.path("w", string(rid))); err != nil {
		return "", err
	}
	if err := os.Mkdir(d.path("w", string(rid)), 0o711); err != nil {
		return "", err
	}
	fault.Point("work.made")
	return dir, freshRoot(dir)
}

// freshRoot makes a directory that can be the root of a file system: 0755, root's, from the epoch.
func freshRoot(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return plainRoot(dir)
}

func plainRoot(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	return os.Chtimes(dir, time.Unix(0, 0), time.Unix(0, 0))
}

// writeFile writes a small file durably; its directory is the caller's to sync.
func writeFile(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *dirs) commit(_ context.Context, w *work, l layer) (layer, error) {
	l.RID = w.rid
	b, err := json.Marshal(l)
	if err != nil {
		return layer{}, err
	}
	dir := d.path("w", string(w.rid))
	if err := os.WriteFile(filepath.Join(dir, "layer.json"), b, 0o600); err != nil {
		return layer{}, err
	}
	fault.Point("layer.named")
	err = os.Rename(dir, d.path("l", string(w.rid)))
	fault.Point("layer.placed")
	return l, err
}

// adopt makes the container id a layer, whose tree is its directory from; changes are those since its parent. It goes out of sight first, so
// that no crash leaves half a container, and is a layer with commit's rename. On an error nothing of it stays.
func (d *dirs) adopt(ctx context.Context, id brig.RID, from string, changes []brig.Change, l layer) (_ layer, made bool, err error) {
	if l.Size, err = regularBytes(d.path("c", string(id), from), changes); err != nil {
		return layer{}, false, err
	}
	dir := d.path("w", string(id))
	if err := errors.Join(erase.All(dir), erase.Uncover(d.path("c", string(id)))); err != nil {
		return layer{}, false, err
	}
	if err := os.Rename(d.path("c", string(id)), dir); err != nil {
		return layer{}, false, err
	}
	fault.Point("tree.taken")
	w := &work{rid: id}
	err = os.Rename(filepath.Join(dir, from), filepath.Join(dir, "diff"))
	if err == nil {
		err = errors.Join(erase.All(filepath.Join(dir, "work")), os.Remove(filepath.Join(dir, parentLink)))
	}
	if err == nil {
		fault.Point("tree.stripped")
		l, err = d.commit(ctx, w, l)
	}
	if err != nil {
		return layer{}, false, errors.Join(err, d.abort(ctx, w))
	}
	return l, true, nil
}

func (d *dirs) unsynced() string { return d.root }

func (d *dirs) abort(_ context.Context, w *work) error {
	if w.close != nil {
		w.close() // again is harmless, and it was not called if begin's caller never got so far
	}
	return errors.Join(erase.All(d.path("w", string(w.rid))), erase.All(d.path("l", string(w.rid))))
}

func (d *dirs) drop(_ context.Context, l layer) error { return d.discard("l", l.RID) }

// discard takes <kind>/<rid> out of sight in one step and then deletes it. Failure to delete is left to Sweep.
func (d *dirs) discard(kind string, rid brig.RID) error {
	grave := brig.NewRID()
	tomb := d.path("w", string(grave))
	d.tombs.Store(grave, true)
	defer d.tombs.Delete(grave)
	if err := erase.Uncover(d.path(kind, string(rid))); err != nil {
		return err
	}
	err := os.Rename(d.path(kind, string(rid)), tomb)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	fault.Point("discard.hidden")
	if err := erase.All(tomb); err != nil {
		d.log.Warn("what was removed could not be deleted wholly; it will be tried again", "dir", tomb, "err", err)
	}
	return nil
}

// reap deletes what is left in w/ of what was removed. Work under way is active; a second deletion beside one that runs does no harm.
func (d *dirs) reap(ctx context.Context, active func(brig.RID) bool) (left int, err error) {
	ids, err := d.rids("w")
	for _, id := range ids {
		if active(id) || ctx.Err() != nil {
			continue
		}
		dir := d.path("w", string(id))
		if e := errors.Join(unmountDir(ctx, d.log, filepath.Join(dir, lowMount)), unmountDir(ctx, d.log, dir), erase.All(dir)); e != nil {
			d.log.Debug("what was removed can't be deleted yet", "dir", dir, "err", e)
			left++
		}
	}
	return left, err
}

// parentLink is c/<rid>/parent: a symlink whose target is the chain that the container stands on, or noParent. Journalling file
// systems keep a link's target with the metadata, so that one fsync of the directory makes all of a new container durable.
const (
	parentLink = "parent"
	noParent   = "none"
)

// place completes a container that was made in w/<id> and moves it to c/<id>.
func (d *dirs) place(id brig.RID, lineage []layer) error {
	parent := noParent
	if len(lineage) > 0 {
		parent = string(lineage[0].Chain)
	}
	dir := d.path("w", string(id))
	if err := os.Symlink(parent, filepath.Join(dir, parentLink)); err != nil {
		return err
	}
	fault.Point("root.linked")
	if err := os.Rename(dir, d.path("c", string(id))); err != nil {
		return err
	}
	fault.Point("root.placed")
	return syncDir(d.path("c"))
}

// readJSON reads a small file of the store; ok is false for one that is missing or not whole.
func readJSON(name string, v any) (ok bool, err error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return json.Unmarshal(b, v) == nil, nil
}

// rids lists the datasets of one kind; other names are not ours and stay.
func (d *dirs) rids(kind string) ([]brig.RID, error) {
	list, err := os.ReadDir(d.path(kind))
	if err != nil {
		return nil, err
	}
	var out []brig.RID
	for _, e := range list {
		if id := brig.RID(e.Name()); id.Valid() {
			out = append(out, id)
		}
	}
	return out, nil
}

func (d *dirs) load(context.Context) ([]layer, map[brig.RID]brig.Digest, error) {
	ids, err := d.rids("l")
	if err != nil {
		return nil, nil, err
	}
	var layers []layer
	for _, id := range ids {
		var l layer
		ok, err := readJSON(d.path("l", string(id), "layer.json"), &l)
		if err != nil {
			return nil, nil, err
		}
		if ok && l.RID == id && l.Chain != "" {
			layers = append(layers, l)
		}
	}
	if ids, err = d.rids("c"); err != nil {
		return nil, nil, err
	}
	roots := map[brig.RID]brig.Digest{}
	for _, id := range ids {
		parent, err := os.Readlink(d.path("c", string(id), parentLink))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, nil, err
		case parent == noParent:
			roots[id] = ""
		default:
			roots[id] = brig.Digest(parent)
		}
	}
	return layers, roots, nil
}

func (d *dirs) makeVolume(_ context.Context, id brig.RID, size int64, driver string) (string, error) {
	if size != 0 {
		return "", noQuota(driver)
	}
	dir := d.path("v", string(id))
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return dir, nil
		}
		return "", err
	}
	fault.Point("volume.made")
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	return dir, syncDir(d.path("v"))
}

func (d *dirs) removeVolume(_ context.Context, id brig.RID) error { return d.discard("v", id) }

// sweepDirs deletes all directories that keep doesn't know; one failure does not stop the rest.
func (d *dirs) sweepDirs(ctx context.Context, k keep) error {
	var all []error
	for kind, known := range map[string]map[brig.RID]bool{"l": k.layers, "c": k.roots, "v": k.volumes, "w": nil} {
		ids, err := d.rids(kind)
		all = append(all, err)
		for _, id := range ids {
			if known[id] || k.active(id) || ctx.Err() != nil {
				continue
			}
			d.log.Info("sweeping what no record names", "kind", kind, "rid", id)
			if kind == "w" {
				all = append(all, erase.All(d.path(kind, string(id))))
			} else {
				all = append(all, d.discard(kind, id))
			}
		}
	}
	return errors.Join(append(all, ctx.Err())...)
}

// sweepMounts unmounts what stands beneath mnt/ and w/ for nobody.
func (d *dirs) sweepMounts(ctx context.Context, k keep) error {
	var all []error
	for _, kind := range []string{"mnt", "w"} {
		ids, err := d.rids(kind)
		all = append(all, err)
		for _, id := range ids {
			if (kind == "mnt" && k.roots[id]) || k.active(id) {
				continue
			}
			dir := d.path(kind, string(id))
			if err := errors.Join(unmountDir(ctx, d.log, filepath.Join(dir, lowMount)), unmountDir(ctx, d.log, dir)); err != nil {
				all = append(all, err)
			} else if kind == "mnt" {
				all = append(all, os.Remove(dir))
			}
		}
	}
	return errors.Join(all...)
}

// unmountDir unmounts dir if something is mounted there: at once, else again for about a second while it is busy, at last by force
// (Linux: lazily) with a warning. A missing dir is fine.
func unmountDir(ctx context.Context, log *slog.Logger, dir string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		m, err := isMount(dir)
		if err != nil || !m {
			return err
		}
		if err = tryUnmount(dir); err == nil {
			continue // mounts can be stacked
		}
		if !isBusy(err) {
			return tooBusy(dir, err)
		}
		if wait > 512*time.Millisecond {
			log.Warn("a mount stays busy and is taken away by force", "path", dir)
			if err := forceUnmount(dir); err != nil {
				return tooBusy(dir, err)
			}
			continue
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return tooBusy(dir, errors.Join(err, ctx.Err()))
		}
	}
}

// isMount reports whether a file system is mounted on dir: its device then differs from its parent's.
func isMount(dir string) (bool, error) {
	a, err := deviceOf(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	b, err := deviceOf(filepath.Dir(dir))
	return a != b, err
}

// stored counts a layer as whole if its record can be read and its tree is there. What is just being deleted isn't listed.
func (d *dirs) stored(ctx context.Context) (stored, error) {
	all, _, err := d.load(ctx)
	out := stored{rids: map[string][]brig.RID{}}
	for _, l := range all {
		if st, err := os.Lstat(d.diff(l)); err == nil && st.IsDir() {
			out.layers = append(out.layers, l)
		}
	}
	for kind, dir := range map[string]string{brig.StoredLayer: "l", brig.StoredContainer: "c", brig.StoredVolume: "v", brig.StoredWork: "w", brig.StoredMount: "mnt"} {
		ids, e := d.rids(dir)
		if dir == "w" {
			ids = slices.DeleteFunc(ids, func(rid brig.RID) bool { _, buried := d.tombs.Load(rid); return buried })
		}
		out.rids[kind], err = ids, errors.Join(err, e)
	}
	return out, err
}

func (d *dirs) scrapLayer(_ context.Context, rid brig.RID) error { return d.discard("l", rid) }
