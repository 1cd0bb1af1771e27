package zfsstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/erase"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/tarfs"
	"golang.org/x/sys/unix"
)

// overlay keeps each layer's own files in a directory and stacks them with overlayfs. See Documentation/filesystems/overlayfs.rst.
type overlay struct {
	dirs
	// modern: the kernel takes lower layers one by one (lowerdir+, Linux 6.7). Before that all of them must fit into mount(2)'s one page.
	modern bool
	// volatile: a mount need not write the file system beneath it when it ends, and fsync(2) in it does nothing (Linux 5.10).
	volatile bool
}

// overlayOptions are off so that every layer's directory means the same without its neighbours.
var overlayOptions = [...][2]string{{"metacopy", "off"}, {"redirect_dir", "off"}, {"index", "off"}}

func openOverlay(ctx context.Context, c Config) (driver, error) {
	d := &overlay{dirs: dirs{root: c.Root, log: c.Log}}
	if err := d.probe(ctx); err != nil {
		return nil, err
	}
	if err := privateMount(d.path("mnt")); err != nil {
		return nil, err
	}
	return d, nil
}

// probe tries a mount, and finds out which way works.
func (d *overlay) probe(ctx context.Context) (err error) {
	rid := brig.NewRID()
	top, err := d.newWork(rid, lowMount)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, unmountDir(ctx, d.log, top), os.RemoveAll(d.path("w", string(rid))))
	}()
	s := stack{}
	for _, name := range []string{"a", "b", "upper", "work"} {
		dir := d.path("w", string(rid), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		switch name {
		case "upper":
			s.upper = dir
		case "work":
			s.work = dir
		default:
			s.lowers = append(s.lowers, dir)
		}
	}
	fd, err := s.detached()
	if err == nil {
		d.modern, d.volatile = true, true
		return unix.Close(fd)
	}
	s.volatile = true
	if d.volatile = s.legacy(top) == nil; d.volatile {
		return nil
	}
	s.volatile = false
	if err := s.legacy(top); err != nil {
		return fmt.Errorf("overlayfs can't be mounted on %s: %w", backing(d.root), err)
	}
	return nil
}

func (d *overlay) close() error { return releaseMount(d.path("mnt")) }

func (d *overlay) describe() (string, [][2]string) {
	return "overlay", [][2]string{{"Backing Filesystem", backing(d.root)}, {"Supports d_type", "true"}, {"Using metacopy", "false"},
		{"Native Overlay Diff", "true"}, {"userxattr", "false"}}
}

// stack is what one overlay mount consists of; upper and work are empty for a read-only one.
type stack struct {
	lowers      []string // top first
	upper, work string
	volatile    bool // nothing in upper need survive a crash
}

func (d *overlay) stack(lineage []layer) stack {
	var s stack
	for _, l := range lineage {
		s.lowers = append(s.lowers, d.diff(l))
	}
	if len(lineage) == 0 {
		s.lowers = []string{d.path("e")}
	}
	return s
}

func (s stack) check() error {
	if len(s.lowers) > maxLayers {
		return errs.New(errs.Invalid, "%d layers: overlayfs can stack at most %d", len(s.lowers), maxLayers)
	}
	return nil
}

// fdPaths opens directories and hands out short names for them.
type fdPaths struct{ fds []int }

func (f *fdPaths) open(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	f.fds = append(f.fds, fd)
	return fd, nil
}

func (f *fdPaths) close() {
	for _, fd := range f.fds {
		unix.Close(fd)
	}
}

// name returns dir itself if fsconfig(2) takes it as it is (at most 255 bytes, nothing that overlayfs would unescape or split at),
// else a name by descriptor.
func (f *fdPaths) name(dir string) (string, error) {
	if len(dir) < 255 && !strings.ContainsAny(dir, `\,:"`) {
		return dir, nil
	}
	fd, err := f.open(dir)
	return "/proc/self/fd/" + strconv.Itoa(fd), err
}

// detached mounts s nowhere yet and returns the mount's descriptor, which is also a directory to openat from; closing it unmounts.
func (s stack) detached() (int, error) {
	if err := s.check(); err != nil {
		return -1, err
	}
	ctx, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(ctx)
	var paths fdPaths
	defer paths.close()
	set := func(key, dir string) error {
		name, err := paths.name(dir)
		if err != nil {
			return err
		}
		if err := unix.FsconfigSetString(ctx, key, name); err != nil {
			return fmt.Errorf("fsconfig %s=%s: %w", key, dir, err)
		}
		return nil
	}
	for _, o := range overlayOptions {
		if err := unix.FsconfigSetString(ctx, o[0], o[1]); err != nil {
			return -1, fmt.Errorf("fsconfig %s=%s: %w", o[0], o[1], err)
		}
	}
	for _, l := range s.lowers {
		if err := set("lowerdir+", l); err != nil {
			return -1, err
		}
	}
	if s.upper != "" {
		if err := errors.Join(set("upperdir", s.upper), set("workdir", s.work)); err != nil {
			return -1, err
		}
	}
	if s.volatile {
		if err := unix.FsconfigSetFlag(ctx, "volatile"); err != nil {
			return -1, fmt.Errorf("fsconfig volatile: %w", err)
		}
	}
	if err := unix.FsconfigSetString(ctx, "source", "overlay"); err != nil {
		return -1, fmt.Errorf("fsconfig source: %w", err)
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, fmt.Errorf("create overlay of %d layers: %w", len(s.lowers), err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return fd, nil
}

// legacy mounts s with mount(2), whose data is one page: directories are named by the numbers of their descriptors, relative to
// /proc/self/fd, which a thread of its own has as its working directory. 500 layers fit.
func (s stack) legacy(target string) error {
	if err := s.check(); err != nil {
		return err
	}
	var paths fdPaths
	defer paths.close()
	var opts []string
	add := func(key string, list ...string) error {
		var nums []string
		for _, dir := range list {
			fd, err := paths.open(dir)
			if err != nil {
				return err
			}
			nums = append(nums, strconv.Itoa(fd))
		}
		opts = append(opts, key+"="+strings.Join(nums, ":"))
		return nil
	}
	if err := add("lowerdir", s.lowers...); err != nil {
		return err
	}
	if s.upper != "" {
		if err := errors.Join(add("upperdir", s.upper), add("workdir", s.work)); err != nil {
			return err
		}
	}
	for _, o := range overlayOptions {
		opts = append(opts, o[0]+"="+o[1])
	}
	if s.volatile {
		opts = append(opts, "volatile")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine, and its working directory with it
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chdir("/proc/self/fd")
		}
		if err == nil {
			err = unix.Mount("overlay", target, "overlay", 0, strings.Join(opts, ","))
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("mount overlay of %d layers: %w", len(s.lowers), err)
	}
	return nil
}

// attach mounts s on the directory target.
func (d *overlay) attach(s stack, target string) error {
	if !d.modern {
		return s.legacy(target)
	}
	fd, err := s.detached()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach overlay to %s: %w", target, err)
	}
	return nil
}

// merged shows the lineage as one tree, read only, until close is called. The old way needs a mount point, at.
func (d *overlay) merged(ctx context.Context, at string, lineage []layer) (dir string, close func() error, err error) {
	nothing := func() error { return nil }
	s := d.stack(lineage)
	if len(s.lowers) == 1 {
		return s.lowers[0], nothing, nil
	}
	if d.modern {
		fd, err := s.detached()
		if err != nil {
			return "", nothing, err
		}
		return "/proc/self/fd/" + strconv.Itoa(fd), sync.OnceValue(func() error { return unix.Close(fd) }), nil
	}
	if err := os.MkdirAll(at, 0o711); err != nil {
		return "", nothing, err
	}
	if err := s.legacy(at); err != nil {
		return "", nothing, errors.Join(err, os.Remove(at))
	}
	return at, sync.OnceValue(func() error { return errors.Join(unmountDir(ctx, d.log, at), os.Remove(at)) }), nil
}

// begin doesn't need the parent: a layer's own files are the same on any. It is asked for when the archive leaves something to what
// lies beneath.
func (d *overlay) begin(ctx context.Context, rid brig.RID, p *parent) (*work, error) {
	w := &work{rid: rid, opts: tarfs.Options{Whiteouts: tarfs.Overlay}}
	var err error
	if w.dir, err = d.newWork(rid, "diff"); err != nil {
		return nil, errors.Join(err, d.abort(ctx, w))
	}
	if p.chain == "" {
		return w, nil
	}
	var release func() error
	w.opts.Lower = func() (dir string, err error) {
		lineage, err := p.lineage(ctx)
		if err != nil {
			return "", err
		}
		dir, release, err = d.merged(context.WithoutCancel(ctx), d.path("w", string(rid), lowMount), lineage)
		return dir, err
	}
	w.close = func() error {
		if release == nil {
			return nil
		}
		return release()
	}
	return w, nil
}

func (d *overlay) clone(_ context.Context, id brig.RID, lineage []layer, size int64) error {
	if size != 0 {
		return noQuota("overlay")
	}
	upper, err := d.newWork(id, "upper")
	if err == nil {
		err = os.Mkdir(d.path("w", string(id), "work"), 0o700)
	}
	if err == nil && len(lineage) > 0 {
		err = tarfs.CopyAttrs(upper, d.diff(lineage[0])) // the merged root shows upper's attributes
	}
	if err == nil {
		err = d.place(id, lineage)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(d.path("w", string(id))))
	}
	return nil
}

func (d *overlay) mount(_ context.Context, id brig.RID, lineage []layer, fleeting bool) (string, error) {
	target := d.path("mnt", string(id))
	if err := os.Mkdir(target, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	if m, err := isMount(target); err != nil || m {
		return target, err
	}
	fault.Point("root.mountpoint")
	s := d.stack(lineage)
	s.upper, s.work = d.path("c", string(id), "upper"), d.path("c", string(id), "work")
	if s.volatile = fleeting && d.volatile; s.volatile {
		// A volatile mount leaves a mark in work that keeps later ones from what a crash may have damaged. There was none since PrepareTree.
		if err := errors.Join(erase.All(s.work), os.Mkdir(s.work, 0o700)); err != nil {
			return "", errors.Join(err, os.Remove(target))
		}
	}
	if err := d.attach(s, target); err != nil {
		return "", errors.Join(err, os.Remove(target))
	}
	fault.Point("root.mounted")
	return target, nil
}

func (d *overlay) unmount(ctx context.Context, id brig.RID) error {
	target := d.path("mnt", string(id))
	if err := unmountDir(ctx, d.log, target); err != nil {
		return err
	}
	fault.Point("root.unmounted")
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (d *overlay) remove(ctx context.Context, id brig.RID) error {
	if err := d.unmount(ctx, id); err != nil {
		return err
	}
	return d.discard("c", id)
}

func (d *overlay) changes(ctx context.Context, id brig.RID, lineage []layer) ([]brig.Change, error) {
	return d.since(ctx, id, lineage, d.path("c", string(id), "upper"))
}

// since lists what an upper directory changes in a lineage, which is mounted in w/<at> where it must be.
func (d *overlay) since(ctx context.Context, at brig.RID, lineage []layer, upper string) (_ []brig.Change, err error) {
	old, release, err := d.merged(ctx, d.path("w", string(at)), lineage)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	return compare(ctx, old, upper, true)
}

func (d *overlay) adopt(ctx context.Context, id brig.RID, lineage []layer, l layer) (layer, bool, error) {
	if err := d.unmount(ctx, id); err != nil {
		return layer{}, false, err
	}
	changes, err := d.changes(ctx, id, lineage)
	if err != nil || len(changes) == 0 {
		return layer{}, false, err
	}
	return d.dirs.adopt(ctx, id, "upper", changes, l)
}

// reveal shows the layer's own directory: it has all that the layer brought.
func (d *overlay) reveal(ctx context.Context, at, _ brig.RID, lineage []layer, use func(string, []brig.Change) error) error {
	dir := d.diff(lineage[0])
	changes, err := d.since(ctx, at, lineage[1:], dir)
	if err != nil {
		return err
	}
	return use(dir, changes)
}

// isOpaque reads overlayfs's mark on a directory of an upper one.
func isOpaque(r *os.Root, rel string) (bool, error) {
	f, err := r.Open(rel)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var b [8]byte
	n, err := unix.Fgetxattr(int(f.Fd()), "trusted.overlay.opaque", b[:])
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return false, nil
	}
	return err == nil && n == 1 && b[0] == 'y', err
}

func (d *overlay) makeVolume(ctx context.Context, id brig.RID, size int64) (string, error) {
	return d.dirs.makeVolume(ctx, id, size, "overlay")
}

func (d *overlay) sweep(ctx context.Context, k keep) error {
	return errors.Join(d.sweepMounts(ctx, k), d.sweepDirs(ctx, k))
}
