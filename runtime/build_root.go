package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// furnish puts into ct's root file system what a run needs there, and makes the run directory. What it puts into the tree of a build's step is noted
// in ct.guest. The caller holds ct's lock.
func (c *Containers) furnish(ct *container, d *brig.Container, j *brig.Jail) (err error) {
	if d.Tree == "" {
		err = furnish(ct.root)
	} else if ct.guest, err = newGuest(ct.root); err == nil {
		err = ct.guest.enter(d.Platform.OS, j.Mounts, d.Mounts)
	}
	if err != nil {
		return err
	}
	return errs.Wrap(os.MkdirAll(j.Dir, 0o700), "make the run directory")
}

// A guest is what the engine has put into a root file system, which shall be as if it had never been there: only what the process has done is
// left. So all that the engine, or an OCI runtime, would make there for the run is made beforehand, and noted.
type guest struct {
	dir  string
	root *os.Root
	made []trace              // in the order of making
	was  map[string]time.Time // directories that were there and that something was put into, by path beneath root
}

// trace is one file that was made, by path beneath root.
type trace struct {
	path string
	info fs.FileInfo // as it was made; a directory's isn't looked at
}

func newGuest(dir string) (*guest, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, errs.Wrap(err, "open the root file system")
	}
	return &guest{dir: dir, root: root, was: map[string]time.Time{}}, nil
}

// enter makes furnish's files, and what is mounted on. Directories that were there keep their times. What volumes among points are mounted on is no
// guest's: as with dockerd's builder it belongs to the image from then on.
func (g *guest) enter(system string, mounts []brig.JailMount, points []brig.MountPoint) error {
	for _, p := range points {
		if p.Type != brig.MountVolume {
			continue
		}
		at, err := securejoin.SecureJoin(g.dir, p.Target)
		if err == nil {
			err = os.MkdirAll(at, 0o755)
		}
		if err != nil {
			return errs.Wrap(err, "make %s", p.Target)
		}
	}
	places := []string{"/.dockerenv", "/dev/"}
	if system == "linux" {
		places = append(places, "/proc/", "/sys/")
	}
	if st, err := g.root.Lstat("etc"); err == nil && st.IsDir() {
		places = append(places, "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
		if err := g.link("etc/mtab", "/proc/mounts"); err != nil {
			return err
		}
	}
	for _, m := range mounts {
		at := path.Clean(m.Target)
		if st, err := os.Stat(m.Source); m.Type == brig.MountTmpfs || err == nil && st.IsDir() {
			at += "/"
		}
		places = append(places, at)
	}
	for _, p := range places {
		if err := g.place(p); err != nil {
			return err
		}
	}
	if err := g.setAside(); err != nil {
		return err
	}
	return g.age()
}

// place makes a file, or with a slash at the end a directory, where a mount at p lands once the links on the way are followed. What is there stays.
func (g *guest) place(p string) error {
	at, err := securejoin.SecureJoin(g.dir, p)
	if err != nil {
		return errs.Wrap(err, "find %s in the root file system", p)
	}
	rel, err := filepath.Rel(g.dir, at)
	if err != nil || rel == "." {
		return err
	}
	parts := strings.Split(rel, "/")
	for i := range parts {
		at := path.Join(parts[:i+1]...)
		if _, err := g.root.Lstat(at); err == nil {
			continue
		}
		if err := g.note(path.Dir(at)); err != nil {
			return err
		}
		if i == len(parts)-1 && !strings.HasSuffix(p, "/") {
			err = touch(g.root, at)
		} else {
			err = errs.Wrap(g.root.Mkdir(at, 0o755), "make /%s", at)
		}
		if err != nil {
			return err
		}
		if err := g.mark(at); err != nil {
			return err
		}
	}
	return nil
}

// link makes a symbolic link unless something is there.
func (g *guest) link(at, to string) error {
	if _, err := g.root.Lstat(at); err == nil {
		return nil
	}
	if err := g.note(path.Dir(at)); err != nil {
		return err
	}
	if err := g.root.Symlink(to, at); err != nil {
		return errs.Wrap(err, "make /%s", at)
	}
	return g.mark(at)
}

// note remembers the times of a directory that was there before.
func (g *guest) note(at string) error {
	if _, ok := g.was[at]; ok || slices.ContainsFunc(g.made, func(t trace) bool { return t.path == at }) {
		return nil
	}
	st, err := g.root.Lstat(at)
	if err != nil {
		return errs.Wrap(err, "look at /%s", at)
	}
	g.was[at] = st.ModTime()
	return nil
}

// mark remembers what has just been made.
func (g *guest) mark(at string) error {
	st, err := g.root.Lstat(at)
	if err != nil {
		return errs.Wrap(err, "look at /%s", at)
	}
	g.made = append(g.made, trace{at, st})
	return nil
}

// age gives directories back the times that they had.
func (g *guest) age() error {
	for at, changed := range g.was {
		if err := g.root.Chtimes(at, time.Time{}, changed); err != nil {
			return errs.Wrap(err, "set the times of /%s", at)
		}
	}
	return nil
}

// leave takes away again what enter made, but for files that the process has changed and directories that it has put something into. A directory
// that the process has not changed otherwise has the times of before. Nil is a guest that has left nothing.
func (g *guest) leave() error {
	if g == nil {
		return nil
	}
	defer g.root.Close()
	now := map[string]time.Time{}
	for at := range g.was {
		if st, err := g.root.Lstat(at); err == nil && st.IsDir() {
			now[at] = st.ModTime()
		}
	}
	all := []error{g.putBack()}
	for _, t := range slices.Backward(g.made) {
		st, err := g.root.Lstat(t.path)
		if err != nil || st.Mode().Type() != t.info.Mode().Type() || !st.IsDir() && (!os.SameFile(st, t.info) || st.Size() != t.info.Size()) {
			continue
		}
		if err := g.root.Remove(t.path); err != nil && !st.IsDir() {
			all = append(all, errs.Wrap(err, "take away /%s", t.path))
		}
	}
	for at, changed := range now {
		if err := g.root.Chtimes(at, time.Time{}, changed); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, errs.Wrap(err, "set the times of /%s", at))
		}
	}
	return errs.Wrap(errors.Join(all...), "clear the root file system of a step")
}

// Where a kernel can't mount on a file, a jail's /etc/hosts and the like become links to files beneath /.brig (jailer/jailspec, OwnFiles). The image's
// own are kept meanwhile beneath that mount point, which hides them from the process.
const (
	aside    = ".brig"
	ownAside = "/" + aside + "/"
)

var ownFiles = []string{"etc/hostname", "etc/hosts", "etc/resolv.conf"}

// setAside keeps the image's own files, by further names.
func (g *guest) setAside() error {
	if goruntime.GOOS != "freebsd" {
		return nil
	}
	if err := g.place(ownAside); err != nil {
		return err
	}
	for _, f := range ownFiles {
		if st, err := g.root.Lstat(f); err != nil || st.IsDir() {
			continue
		}
		if err := g.note(path.Dir(f)); err != nil { // which putBack changes
			return err
		}
		if err := g.root.Link(f, path.Join(aside, path.Base(f))); err != nil {
			return errs.Wrap(err, "keep /%s", f)
		}
	}
	return nil
}

// putBack ends setAside.
func (g *guest) putBack() error {
	if goruntime.GOOS != "freebsd" {
		return nil
	}
	for _, f := range ownFiles {
		kept := path.Join(aside, path.Base(f))
		if _, err := g.root.Lstat(kept); err != nil {
			continue
		}
		if to, err := g.root.Readlink(f); err == nil && strings.HasPrefix(to, ownAside) {
			if err := g.root.Rename(kept, f); err != nil {
				return errs.Wrap(err, "put /%s back", f)
			}
			continue
		}
		if err := g.root.Remove(kept); err != nil && !os.IsNotExist(err) {
			return errs.Wrap(err, "forget /%s", kept)
		}
	}
	return nil
}
