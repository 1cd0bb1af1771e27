package tarfs

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxOpen is how many directory descriptors an extraction keeps between entries.
const maxOpen = 256

// dir is an open directory; path is where it really is beneath the root, no symlinks left; "." is the root.
type dir struct {
	fd   int
	path string
	// plain: made by this extraction, and all that is in it are regular files that the pool was given.
	plain bool
	mount *Mount // the one that it lies in; nil: none is known

	// The pool's, under its lock.
	pending int // files that workers have
	worker  int // the one that has them
}

// dirs resolves names beneath a root and keeps the directories open that it has found.
type dirs struct {
	root  *dir
	known map[string]*dir // by the name asked for; several names can lead to one dir
	stale bool            // something was removed: a known directory may be gone
	pool  *pool           // uses the directories' descriptors; nil: none

	mounts []Mount
}

func newDirs(fd int, mounts []Mount) dirs {
	d := dirs{root: &dir{fd: fd, path: "."}, known: map[string]*dir{}, mounts: mounts}
	d.root.mount = d.under(".")
	return d
}

// trim is called between entries, when no dir is in use.
func (d *dirs) trim() {
	if d.stale || len(d.known) > maxOpen {
		d.flush()
	}
}

func (d *dirs) flush() {
	if d.pool != nil {
		d.pool.settleAll()
	}
	for _, k := range d.known {
		if k.fd >= 0 && k != d.root {
			unix.Close(k.fd)
			k.fd = -1
		}
	}
	clear(d.known)
	d.stale = false
}

func (d *dirs) close() {
	d.flush()
	unix.Close(d.root.fd)
}

// keep takes over fd.
func (d *dirs) keep(fd int, at string) *dir {
	if k, ok := d.known[at]; ok && k.path == at {
		unix.Close(fd)
		return k
	}
	k := &dir{fd: fd, path: at, mount: d.under(at)}
	d.known[at] = k
	return k
}

func join(dir, base string) string {
	if dir == "." {
		return base
	}
	return dir + "/" + base
}

// split cuts a clean relative name into its directory and last component.
func split(name string) (parent, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return ".", name
}

// dir returns the directory name (clean, relative to the root). Missing ones are made if create is set; else the result is nil
// if neither the tree nor, for overlays, a lower layer has it.
func (x *extractor) dir(name string, create bool) (*dir, error) {
	links := 0
	return x.find(name, create, &links)
}

func (x *extractor) find(name string, create bool, links *int) (*dir, error) {
	if name == "." {
		return x.dirs.root, nil
	}
	if k, ok := x.dirs.known[name]; ok {
		return k, nil
	}
	up, base := split(name)
	parent, err := x.find(up, create, links)
	if err != nil || parent == nil {
		return nil, err
	}
	k, err := x.step(parent, base, create, links)
	if err == nil && k != nil {
		if _, ok := x.dirs.known[name]; !ok {
			x.dirs.known[name] = k
		}
	}
	return k, err
}

// step goes one component down.
func (x *extractor) step(parent *dir, base string, create bool, links *int) (*dir, error) {
	at := join(parent.path, base)
	x.settle(at)
	fd, err := x.dirs.open(parent.fd, at)
	switch {
	case err == nil:
		return x.enter(fd, at)
	case err == unix.ENOENT:
		return x.implied(parent, base, create, links)
	case !notDir(err):
		return nil, x.fail("open directory", at, err)
	}
	target, err := readlink(parent.fd, base)
	if err == nil {
		return x.follow(parent, at, target, create, links)
	}
	if !x.o.layer() {
		return nil, invalid("%s: a parent directory is not a directory", at)
	}
	if !create {
		return nil, nil
	}
	return x.overFile(parent, base)
}

// overFile makes a directory where a file, or this layer's own whiteout, stands in the way of a layer's entry.
func (x *extractor) overFile(parent *dir, base string) (*dir, error) {
	if err := x.remove(parent, base); err != nil {
		return nil, err
	}
	return x.makeImplied(parent, base, nil, true)
}

// enter takes over fd, an existing directory that entries will go to, and notes the time that it shall have in the end.
func (x *extractor) enter(fd int, at string) (*dir, error) {
	if _, ok := x.times[at]; !ok && x.o.layer() {
		st, err := fstat(fd)
		if err != nil {
			unix.Close(fd)
			return nil, x.fail("stat", at, err)
		}
		if err := x.setTime(at, st.mtime); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return x.dirs.keep(fd, at), nil
}

// follow goes where the symlink at points, staying beneath the root.
func (x *extractor) follow(parent *dir, at, target string, create bool, links *int) (*dir, error) {
	if *links++; *links > maxLinks {
		return nil, invalid("%s: too many symbolic links", at)
	}
	cur := parent
	if strings.HasPrefix(target, "/") {
		cur = x.dirs.root
	}
	for _, c := range strings.Split(target, "/") {
		var err error
		switch {
		case c == "" || c == ".":
			continue
		case c != "..":
			cur, err = x.step(cur, c, create, links)
		case cur.path == ".":
			return nil, invalid("%s: a parent directory is a symbolic link to %q, which leaves the root", at, target)
		default:
			cur, err = x.find(path.Dir(cur.path), create, links)
		}
		if err != nil || cur == nil {
			return nil, err
		}
	}
	return cur, nil
}

// implied handles a directory that is not in the tree: it may be in a lower layer, or has to be made.
func (x *extractor) implied(parent *dir, base string, create bool, links *int) (*dir, error) {
	at := join(parent.path, base)
	low, ok, err := x.lowerAt(at)
	if err != nil {
		return nil, err
	}
	if ok {
		defer unix.Close(low.dir)
		st, err := lstat(low.dir, low.name)
		switch {
		case err != nil:
			return nil, x.fail("stat in the lower layers", at, err)
		case st.isLink():
			target, err := readlink(low.dir, low.name)
			if err != nil {
				return nil, x.fail("read link in the lower layers", at, err)
			}
			return x.follow(parent, at, target, create, links)
		case st.isDir():
			return x.makeImplied(parent, base, &low, false)
		}
	}
	if !create {
		return nil, nil
	}
	return x.makeImplied(parent, base, nil, false)
}

// makeImplied makes a directory that no entry names, like the one that low shows if there is one.
func (x *extractor) makeImplied(parent *dir, base string, low *node, hides bool) (*dir, error) {
	at := join(parent.path, base)
	if x.implicit++; x.stats.Entries+x.implicit > x.o.MaxEntries {
		return nil, x.tooMany()
	}
	if err := x.deep(at); err != nil {
		return nil, err
	}
	parent.plain = false
	if parent.mount.readOnly() {
		return nil, parent.mount.refuses("mkdir", at)
	}
	if err := unix.Mkdirat(parent.fd, base, 0o755); err != nil && err != unix.EEXIST {
		return nil, x.fail("make directory", at, err)
	}
	fd, err := openDir(parent.fd, base)
	if err != nil {
		return nil, x.fail("open directory", at, err)
	}
	k := x.dirs.keep(fd, at)
	x.note(at)
	if x.o.layer() {
		if err := x.setTime(at, unix.Timespec{}); err != nil {
			return nil, err
		}
	}
	if low != nil {
		return k, x.likeLower(k, *low)
	}
	if err := unix.Fchmod(k.fd, 0o755); err != nil {
		return nil, x.fail("chmod", at, err)
	}
	if hides {
		err = x.setOpaque(k)
	}
	return k, err
}

// likeLower gives k the attributes of the directory low.
func (x *extractor) likeLower(k *dir, low node) error {
	fd, err := openDir(low.dir, low.name)
	if err != nil {
		return x.fail("open in the lower layers", k.path, err)
	}
	defer unix.Close(fd)
	st, err := fstat(fd)
	if err == nil {
		if err := x.setTime(k.path, st.mtime); err != nil {
			return err
		}
		err = copyAttrs(node{fd: k.fd}, node{fd: fd}, &st)
	}
	return x.fail("copy attributes from the lower layers", k.path, err)
}

// lowerAt looks for a real path in the lower layers. The caller closes the node's dir.
func (x *extractor) lowerAt(at string) (node, bool, error) {
	if x.o.Whiteouts != Overlay || x.o.Lower == nil || x.hidden(at) {
		return node{}, false, nil
	}
	if err := x.openLower(); err != nil {
		return node{}, false, err
	}
	up, base := split(at)
	fd, err := openDir(x.lower, ".")
	if up != "." {
		for _, c := range strings.Split(up, "/") {
			if err != nil {
				break
			}
			next, e := openDir(fd, c)
			unix.Close(fd)
			fd, err = next, e
		}
	}
	if err == nil {
		var st info
		if st, err = lstat(fd, base); err == nil && !st.isWhiteout() {
			return node{fd, base, -1}, true, nil
		}
		unix.Close(fd)
	}
	if err == nil || err == unix.ENOENT || notDir(err) {
		return node{}, false, nil
	}
	return node{}, false, x.fail("look in the lower layers for", at, err)
}

func (x *extractor) openLower() error {
	if x.lower >= 0 {
		return nil
	}
	name, err := x.o.Lower()
	if err != nil {
		return err
	}
	x.lower, err = openRoot(name)
	return err
}

// hidden reports whether a parent of at is opaque, so that lower layers don't show there.
func (x *extractor) hidden(at string) bool {
	if len(x.opaque) == 0 {
		return false
	}
	for at != "." {
		at, _ = split(at)
		if x.opaque[at] {
			return true
		}
	}
	return false
}

// setTimes gives directories their times, when nothing more will change in them.
func (x *extractor) setTimes() error {
	all := make([]string, 0, len(x.times))
	for at := range x.times {
		all = append(all, at)
	}
	slices.Sort(all)
	for _, at := range all {
		x.dirs.trim()
		k, err := x.existing(at)
		if err != nil {
			return err
		}
		if k == nil {
			continue // replaced or removed by a later entry
		}
		if err := utimes(k.fd, ".", x.times[at]); err != nil {
			return x.fail("set time of", at, err)
		}
	}
	return nil
}

// existing opens a directory by its real path, following nothing and making nothing.
func (x *extractor) existing(at string) (*dir, error) {
	if at == "." {
		return x.dirs.root, nil
	}
	if k, ok := x.dirs.known[at]; ok && k.path == at {
		return k, nil
	}
	up, _ := split(at)
	parent, err := x.existing(up)
	if err != nil || parent == nil {
		return nil, err
	}
	fd, err := x.dirs.open(parent.fd, at)
	if err == unix.ENOENT || notDir(err) {
		return nil, nil
	}
	if err != nil {
		return nil, x.fail("open directory", at, err)
	}
	return x.dirs.keep(fd, at), nil
}
