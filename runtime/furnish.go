package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// furniture are the paths that the engine, not the container's user, puts into a root file system: dockerd has them in a layer of
// its own below the container's. Changes doesn't show them.
var furniture = []string{
	"/.brig", "/.dockerenv", "/dev", "/dev/console", "/dev/mqueue", "/dev/pts", "/dev/shm", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf",
	"/proc", "/sys",
}

// furnish puts /.dockerenv, by which programs know that they run in a container, /etc/mtab, and files to mount others over into a
// mounted root file system.
// Whatever the image has at these places stays.
func furnish(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return errs.Wrap(err, "open the root file system")
	}
	defer root.Close()
	if err := touch(root, ".dockerenv"); err != nil {
		return err
	}
	// An image whose /etc leads out of the root, or is no directory, goes without.
	if st, err := root.Lstat("etc"); err == nil && st.IsDir() {
		if err := root.Symlink("/proc/mounts", "etc/mtab"); err != nil && !errors.Is(err, fs.ErrExist) {
			return errs.Wrap(err, "make /etc/mtab")
		}
		for _, name := range []string{"etc/hostname", "etc/hosts", "etc/resolv.conf"} { // an OCI runtime would make them unreadable
			if err := touch(root, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// touch makes an empty file unless something is there.
func touch(root *os.Root, name string) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err == nil {
		err = f.Close()
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return errs.Wrap(err, "make /%s", name)
}

// hideFurniture takes the engine's own paths out of changes, and a directory that is modified by nothing but them.
func hideFurniture(changes []brig.Change) []brig.Change {
	touched := map[string]bool{} // directories that furniture was added to
	out := slices.DeleteFunc(changes, func(c brig.Change) bool {
		hide := slices.Contains(furniture, c.Path) && c.Kind != brig.ChangeDeleted
		if hide && c.Kind == brig.ChangeAdded {
			touched[path.Dir(c.Path)] = true
		}
		return hide
	})
	return slices.DeleteFunc(slices.Clone(out), func(c brig.Change) bool {
		return touched[c.Path] && c.Kind != brig.ChangeDeleted && !slices.ContainsFunc(out, func(d brig.Change) bool { return strings.HasPrefix(d.Path, c.Path+"/") })
	})
}

// Changes lists what differs from the image, but for what the engine itself has put there.
func (c *Containers) Changes(ctx context.Context, ref string) (_ []brig.Change, err error) {
	defer c.timed("changes", &err)()
	ct, err := c.find(ref)
	if err != nil {
		return nil, err
	}
	all, err := c.cfg.RootFS.Diff(ctx, c.record(ct).RootFS)
	return hideFurniture(all), err
}
