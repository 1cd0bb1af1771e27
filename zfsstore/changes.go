package zfsstore

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/brigd/brig/internal/brig"
)

// comparer finds what differs between two trees. Both are read beneath their roots only: a container may change its tree meanwhile.
type comparer struct {
	ctx      context.Context
	old, new *os.Root
	// upper says that new is an overlayfs upper directory: it holds only what changed, with whiteouts and opaque marks.
	upper bool
	out   []brig.Change
}

// compare lists what changed from the tree old to the tree new, sorted by path. A directory counts as modified if its own attributes
// changed or if something in it came or went; what is in a deleted one is not listed.
func compare(ctx context.Context, old, new string, upper bool) ([]brig.Change, error) {
	o, err := os.OpenRoot(old)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	n, err := os.OpenRoot(new)
	if err != nil {
		return nil, err
	}
	defer n.Close()
	c := comparer{ctx: ctx, old: o, new: n, upper: upper}
	if _, err := c.dir(".", true, !upper); err != nil {
		return nil, err
	}
	slices.SortFunc(c.out, func(a, b brig.Change) int { return cmp.Compare(a.Path, b.Path) })
	return c.out, nil
}

func (c *comparer) add(rel string, k brig.ChangeKind) {
	c.out = append(c.out, brig.Change{Path: "/" + rel, Kind: k})
}

// names lists a directory; one that has gone meanwhile is empty.
func names(r *os.Root, rel string) ([]string, error) {
	f, err := r.Open(rel)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// lstat returns nil for what is not there.
func lstat(r *os.Root, rel string) (fs.FileInfo, error) {
	fi, err := r.Lstat(rel)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	return fi, err
}

// dir compares the directory rel, which new has, and old too if inOld. full says that what new lacks was deleted. Something having
// come or gone directly in it is reported by changed.
func (c *comparer) dir(rel string, inOld, full bool) (changed bool, err error) {
	if err := c.ctx.Err(); err != nil {
		return false, err
	}
	list, err := names(c.new, rel)
	if err != nil {
		return false, err
	}
	if inOld && full {
		more, err := names(c.old, rel)
		if err != nil {
			return false, err
		}
		list = append(list, more...)
	}
	slices.Sort(list)
	for _, name := range slices.Compact(list) {
		if rel != "." {
			name = rel + "/" + name
		}
		moved, err := c.entry(name, inOld, full)
		if err != nil {
			return false, err
		}
		changed = changed || moved
	}
	return changed, nil
}

// entry compares one name; moved says that it came or went.
func (c *comparer) entry(rel string, inOld, full bool) (moved bool, err error) {
	n, err := lstat(c.new, rel)
	if err != nil {
		return false, err
	}
	var o fs.FileInfo
	if inOld {
		if o, err = lstat(c.old, rel); err != nil {
			return false, err
		}
	}
	if n != nil && c.upper && isWhiteout(n) {
		n = nil
	}
	switch {
	case n == nil && o == nil:
		return false, nil
	case n == nil:
		c.add(rel, brig.ChangeDeleted)
		return true, nil
	case o == nil:
		c.add(rel, brig.ChangeAdded)
		if n.IsDir() {
			_, err = c.dir(rel, false, full)
		}
		return true, err
	case n.IsDir():
		return false, c.both(rel, o, n, full)
	case c.upper || differ(o, n):
		c.add(rel, brig.ChangeModified)
	}
	return false, nil
}

// both compares a directory of new with what old has there.
func (c *comparer) both(rel string, o, n fs.FileInfo, full bool) error {
	if c.upper && o.IsDir() && !full {
		opaque, err := isOpaque(c.new, rel)
		if err != nil {
			return err
		}
		full = opaque
	}
	at := len(c.out)
	changed, err := c.dir(rel, o.IsDir(), full)
	if changed || !o.IsDir() || differ(o, n) {
		c.out = slices.Insert(c.out, at, brig.Change{Path: "/" + rel, Kind: brig.ChangeModified})
	}
	return err
}

// differ compares what can be seen without reading contents.
func differ(a, b fs.FileInfo) bool {
	x, ok := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	if !ok || !ok2 {
		return true
	}
	return a.Mode() != b.Mode() || !a.ModTime().Equal(b.ModTime()) || x.Uid != y.Uid || x.Gid != y.Gid ||
		(a.Mode()&fs.ModeDevice != 0 && x.Rdev != y.Rdev) || // of what is no device, UFS shows the first block
		(!a.IsDir() && a.Size() != b.Size())
}

func isWhiteout(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && fi.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0
}
