package tarfs

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
)

// PackChanges writes a layer: an archive of what changed in the tree dir, which is a container's mounted root, or an overlayfs
// upper directory. Each added or modified path becomes one entry (a directory's contents are changes of their own), each deleted
// one a whiteout, and the directories above come before them, as dockerd has it. The order of changes does not matter: entries
// are sorted by directory, so that the same changes give the same bytes.
//
// Links between changed paths stay links. Sockets are left out. A path that is no longer there, or has become a socket, is left
// out if it was added and becomes a whiteout if it was modified. Invalid: a path is not absolute and clean, or one of its
// components begins with .wh., which only a whiteout may do in a layer.
func PackChanges(ctx context.Context, w io.Writer, dir string, changes []brig.Change) error {
	_, err := PackLayer(ctx, w, dir, changes, nil)
	return err
}

// PackLayer is PackChanges with no entry's time later than latest, if that isn't nil. It returns the bytes of regular files.
func PackLayer(ctx context.Context, w io.Writer, dir string, changes []brig.Change, latest *time.Time) (bytes int64, err error) {
	fd, err := openRoot(dir)
	if err != nil {
		return 0, err
	}
	tw := tar.NewWriter(w)
	p := newPacker(ctx, tw, PackOptions{})
	p.latest = latest
	c := changePacker{p: p, open: []openedDir{{".", fd}}}
	defer c.leave(0)
	sorted := slices.Clone(changes)
	slices.SortFunc(sorted, func(a, b brig.Change) int { return byComponent(a.Path, b.Path) })
	sorted = slices.CompactFunc(sorted, func(a, b brig.Change) bool { return a.Path == b.Path })
	for _, ch := range sorted {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := c.change(ch); err != nil {
			return 0, err
		}
	}
	return p.bytes, tw.Close()
}

// byComponent orders paths so that a directory's contents follow it at once: the slash comes before every other byte.
func byComponent(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	x, y := a[n:], b[n:]
	if x != "" && y != "" && (x[0] == '/') != (y[0] == '/') {
		if x[0] == '/' {
			return -1
		}
		return 1
	}
	return cmp.Compare(x, y)
}

type openedDir struct {
	path string
	fd   int
}

// changePacker writes changes in the order of byComponent. It keeps the directories open that lead to the current path; all
// but the root have their entries written.
type changePacker struct {
	p    *packer
	open []openedDir
}

// leave closes the directories from number n on.
func (c *changePacker) leave(n int) {
	for _, d := range c.open[n:] {
		unix.Close(d.fd)
	}
	c.open = c.open[:n]
}

func (c *changePacker) change(ch brig.Change) error {
	if ch.Path == "/" {
		if ch.Kind == brig.ChangeDeleted {
			return invalid("pack: the root can't be deleted")
		}
		return c.p.dirEntry(c.open[0].fd, ".")
	}
	name, err := changedName(ch.Path)
	if err != nil {
		return err
	}
	up, base := split(name)
	fd, err := c.enter(up)
	if err == unix.ENOENT || notDir(err) {
		return nil // gone with what was above it
	}
	if err != nil {
		return fmt.Errorf("open %q: %w", up, err)
	}
	if ch.Kind != brig.ChangeDeleted {
		done, err := c.entry(fd, base, name)
		if err != nil || done || ch.Kind == brig.ChangeAdded {
			return err
		}
	}
	return c.p.tw.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: join(up, whPrefix+base), Mode: 0o600, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	})
}

// changedName checks a path and makes it relative.
func changedName(p string) (string, error) {
	for i, part := range strings.Split(p, "/") {
		switch {
		case i == 0 && part != "", i > 0 && (part == "" || part == "." || part == ".."), strings.IndexByte(part, 0) >= 0:
			return "", invalid("pack: %q is not an absolute, clean path", p)
		case strings.HasPrefix(part, whPrefix):
			return "", invalid("pack: %q can't be in a layer: a name that begins with %s is a whiteout there", p, whPrefix)
		}
	}
	return p[1:], nil
}

// enter opens the directory at and writes entries for the directories on the way that have none yet.
func (c *changePacker) enter(at string) (int, error) {
	n := len(c.open)
	for n > 1 && c.open[n-1].path != at && !strings.HasPrefix(at, c.open[n-1].path+"/") {
		n--
	}
	c.leave(n)
	top := c.open[n-1]
	rest := at
	switch {
	case at == top.path:
		return top.fd, nil
	case n > 1:
		rest = at[len(top.path)+1:]
	}
	for part := range strings.SplitSeq(rest, "/") {
		fd, err := openDir(top.fd, part)
		if err != nil {
			return -1, err
		}
		top = openedDir{join(top.path, part), fd}
		c.open = append(c.open, top)
		if err := c.p.dirEntry(fd, top.path); err != nil {
			return -1, err
		}
	}
	return top.fd, nil
}

// entry writes what is at base in the directory fd; done says that there was something to write.
func (c *changePacker) entry(fd int, base, name string) (done bool, err error) {
	st, err := lstat(fd, base)
	switch {
	case err == unix.ENOENT || (err == nil && st.isWhiteout()):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("stat %q: %w", name, err)
	case st.isDir():
		_, err := c.enter(name)
		if errors.Is(err, unix.ENOENT) || notDir(err) {
			return false, nil
		}
		return true, err
	}
	before := c.p.wrote
	err = c.p.pack(fd, base, name, name)
	return c.p.wrote > before, err
}
