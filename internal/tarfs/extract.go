package tarfs

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// extractor is one run of Extract. It is for the goroutine that reads the archive; workers use wholeFile, attrs and fail alone.
type extractor struct {
	o        Options
	pool     *pool // nil: no workers
	dirs     dirs
	lower    int // Options.Lower's directory; -1 before it is asked for
	times    map[string]unix.Timespec
	opaque   map[string]bool // real paths that were made opaque
	made     made            // Apply: what this layer brought
	held     int64           // bytes of names in times and opaque
	implicit int64           // directories made that no entry names
	buf      []byte
	stats    Stats
	unkept   atomic.Int64
}

// Extract extracts the archive r beneath dir. It reads r to its end, also past the archive's own end, so that the caller can hash
// all of it. Invalid: the archive is damaged, leaves the root, or exceeds a limit; what had been extracted stays.
// dir's own path is the caller's: symlinks in it are followed.
func Extract(ctx context.Context, dir string, r io.Reader, o Options) (Stats, error) {
	fd, err := openRoot(dir)
	if err != nil {
		return Stats{}, err
	}
	o.Sub = strings.Trim(path.Clean("/"+o.Sub), "/")
	x := &extractor{
		o: o.withDefaults(), dirs: newDirs(fd, o.Mounts), lower: -1, times: map[string]unix.Timespec{},
		opaque: map[string]bool{}, made: newMade(), buf: make([]byte, 256<<10),
	}
	x.pool = startPool(x)
	x.dirs.pool = x.pool
	defer x.close()
	br := bufio.NewReaderSize(r, 128<<10)
	rootNamed, err := x.run(ctx, tar.NewReader(br))
	if x.pool != nil {
		err = x.pool.stop(err)
		x.pool, x.dirs.pool = nil, nil
	}
	x.stats.Unkept = x.unkept.Load()
	if err == nil {
		err = x.finish(rootNamed)
	}
	if err != nil {
		return x.stats, err
	}
	_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{&ctxReader{ctx, br}}, x.buf)
	return x.stats, archiveError(err)
}

func (x *extractor) close() {
	x.dirs.close()
	if x.lower >= 0 {
		unix.Close(x.lower)
	}
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// run extracts all entries. rootNamed says that one of them was the root's own.
func (x *extractor) run(ctx context.Context, tr *tar.Reader) (rootNamed bool, err error) {
	if x.o.layer() {
		st, err := fstat(x.dirs.root.fd)
		if err != nil {
			return false, x.fail("stat", ".", err)
		}
		x.times["."] = st.mtime
	}
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if x.pool != nil {
			if err := x.pool.failure(); err != nil {
				return false, err
			}
		}
		h, err := tr.Next()
		if err == io.EOF {
			return rootNamed, nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return false, archiveError(err)
		}
		if x.stats.Entries++; x.stats.Entries+x.implicit > x.o.MaxEntries {
			return false, x.tooMany()
		}
		x.dirs.trim()
		name, err := x.clean(h.Name)
		if err != nil {
			return false, err
		}
		rootNamed = rootNamed || name == "."
		if err := x.entry(ctx, name, h, tr); err != nil {
			return false, err
		}
	}
}

func (x *extractor) tooMany() error {
	return invalid("archive has more than %d entries, directories that it only implies included", x.o.MaxEntries)
}

// finish does what can only be done when all entries are known.
func (x *extractor) finish(rootNamed bool) error {
	if !x.o.layer() {
		return x.setTimes()
	}
	if x.o.Whiteouts == Overlay && x.o.Lower != nil && !rootNamed {
		if err := x.openLower(); err != nil {
			return err
		}
		if err := x.likeLower(x.dirs.root, node{dir: x.lower, name: "."}); err != nil {
			return err
		}
	}
	if err := x.hideRoot(); err != nil {
		return err
	}
	return x.setTimes()
}

// clean turns an entry's name into a path relative to where entries go. "." is that directory itself.
func (x *extractor) clean(name string) (string, error) {
	if len(name) > x.o.MaxName {
		return "", invalid("archive entry's name has %d bytes, more than %d", len(name), x.o.MaxName)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", invalid("archive entry %q: a name can't hold a zero byte", name)
	}
	p := path.Clean(strings.TrimLeft(name, "/"))
	if name == "" || p == ".." || strings.HasPrefix(p, "../") {
		return "", invalid("archive entry %q leaves the root", name)
	}
	if strings.Count(p, "/") >= x.o.MaxDepth {
		return "", invalid("archive entry %.80q… is deeper than %d", name, x.o.MaxDepth)
	}
	return p, nil
}

// deep refuses a directory that lies too deep, where symbolic links led to it: all that walks trees goes as deep as they are.
func (x *extractor) deep(at string) error {
	if strings.Count(at, "/") >= x.o.MaxDepth {
		return invalid("directory %.80q… is deeper than %d", at, x.o.MaxDepth)
	}
	return nil
}

// fail says what was tried on which path beneath the root; nil stays nil. The text shows no host path.
func (x *extractor) fail(what, at string, err error) error {
	if err == nil {
		return nil
	}
	switch err {
	case unix.ENAMETOOLONG, unix.E2BIG, unix.ERANGE, unix.EINVAL: // what the archive asks for can't exist
		return invalid("%s %q: %w", what, at, err)
	}
	return fmt.Errorf("%s %q: %w", what, at, err)
}

// note remembers that the layer itself brought at, so that its whiteouts spare it.
func (x *extractor) note(at string) {
	if x.o.Whiteouts == Apply {
		x.made.add(at)
	}
}

// entry extracts one entry.
func (x *extractor) entry(ctx context.Context, name string, h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if err := x.checkHeader(name, h); err != nil {
		return err
	}
	if name == "." {
		return x.rootEntry(h)
	}
	if x.o.layer() {
		if done, err := x.whiteout(name, h); done || err != nil {
			return err
		}
	}
	up, base := split(name)
	if x.o.Sub != "" {
		up = path.Join(x.o.Sub, up)
	}
	parent, err := x.dir(up, true)
	if err != nil {
		return err
	}
	if regular(h) && x.pool != nil {
		if done, err := x.pool.file(ctx, parent, base, h, r); done || err != nil {
			return err
		}
	}
	x.settle(join(parent.path, base))
	parent.plain = false
	if done, err := x.mounted(parent, base, h); done || err != nil {
		return err
	}
	if regular(h) {
		return x.file(ctx, parent, base, h, r)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return x.directory(parent, base, h)
	case tar.TypeLink:
		return x.hardlink(parent, base, h)
	}
	return x.special(parent, base, h)
}

func regular(h *tar.Header) bool {
	switch h.Typeflag {
	case tar.TypeReg, '\x00', tar.TypeGNUSparse, tar.TypeCont:
		return true
	}
	return false
}

// settle waits for the worker that may still have the file at.
func (x *extractor) settle(at string) {
	if x.pool != nil {
		x.pool.settle(at)
	}
}

// settleAll waits for all workers: something is removed, or looks at everything in a directory.
func (x *extractor) settleAll() {
	if x.pool != nil {
		x.pool.settleAll()
	}
}

func (x *extractor) checkHeader(name string, h *tar.Header) error {
	const maxID = 1<<32 - 2 // (uid_t)-1 means "leave" to chown(2)
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > maxID || int64(h.Gid) > maxID {
		return invalid("archive entry %q: owner %d:%d is out of range", name, h.Uid, h.Gid)
	}
	if len(h.Linkname) > x.o.MaxName || strings.IndexByte(h.Linkname, 0) >= 0 {
		return invalid("archive entry %q: bad link target", name)
	}
	if h.Size < 0 || h.Size > x.o.MaxBytes-x.stats.Bytes {
		return invalid("archive entry %q: the archive expands to more than %d bytes", name, x.o.MaxBytes)
	}
	return nil
}

// rootEntry handles "./": a layer sets the root's attributes with it, for others it says nothing new.
func (x *extractor) rootEntry(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return invalid("archive entry %q would replace the root by something that is no directory", h.Name)
	}
	if !x.o.layer() {
		return nil
	}
	return x.dirAttrs(x.dirs.root, h, true)
}

// create runs make, which fails if base exists; then it clears the way and runs make once more.
func (x *extractor) create(parent *dir, base string, isDir bool, make func() error) error {
	err := retry(make)
	if err == unix.EEXIST {
		if err := x.replace(parent, base, isDir); err != nil {
			return err
		}
		err = retry(make)
	}
	return x.fail("create", join(parent.path, base), err)
}

// replace removes what an entry replaces.
func (x *extractor) replace(parent *dir, base string, isDir bool) error {
	st, err := lstat(parent.fd, base)
	if err == unix.ENOENT {
		return nil
	}
	at := join(parent.path, base)
	if err != nil {
		return x.fail("stat", at, err)
	}
	if x.o.NoOverwriteDirNonDir && st.isDir() != isDir {
		return overwrites(at, base, st.isDir())
	}
	if x.dirs.holdsMounts(at) {
		return busy(at)
	}
	if !st.isDir() && !st.isLink() { // no name leads through it
		return x.fail("remove", at, removeAt(parent.fd, base))
	}
	return x.remove(parent, base)
}

// overwrites is the refusal of NoOverwriteDirNonDir.
func overwrites(at, base string, dir bool) error {
	if dir {
		return invalid("cannot overwrite directory %q with non-directory %q", at, base)
	}
	return invalid("cannot overwrite non-directory %q with directory %q", at, base)
}

func (x *extractor) remove(parent *dir, base string) error {
	x.settleAll()
	x.dirs.stale = true
	at := join(parent.path, base)
	if x.o.Whiteouts == Overlay {
		maps.DeleteFunc(x.opaque, func(p string, _ bool) bool { return p == at || strings.HasPrefix(p, at+"/") })
	}
	return x.fail("remove", at, removeAt(parent.fd, base))
}

func (x *extractor) directory(parent *dir, base string, h *tar.Header) error {
	at := join(parent.path, base)
	if err := x.deep(at); err != nil {
		return err
	}
	existed, hides := false, false
	mkdir := func() error { return unix.Mkdirat(parent.fd, base, uint32(h.Mode)&0o777) }
	err := retry(mkdir)
	if err == unix.EEXIST {
		st, e := lstat(parent.fd, base)
		existed = e == nil && st.isDir()
		hides = !existed
		err = nil
		if !existed {
			err = x.create(parent, base, true, mkdir)
		}
	}
	if err != nil {
		return x.fail("make directory", at, err)
	}
	fd, err := openDir(parent.fd, base)
	if err != nil {
		return x.fail("open directory", at, err)
	}
	k := x.dirs.keep(fd, at)
	k.plain = !existed
	if err := x.dirAttrs(k, h, existed); err != nil {
		return err
	}
	x.note(at)
	if hides {
		return x.setOpaque(k)
	}
	return nil
}

// dirAttrs sets a directory's attributes; its time is set in the end. A layer's entry replaces all that a lower one had set.
func (x *extractor) dirAttrs(k *dir, h *tar.Header, existed bool) error {
	if existed && x.pool != nil {
		x.pool.settleIn(k) // what is made in it before inherits otherwise than what is made after
	}
	if existed && x.o.Whiteouts == Apply {
		n := node{fd: k.fd}
		old, err := xattrs(n)
		if err != nil {
			return x.fail("list attributes of", k.path, err)
		}
		for name := range old {
			if err := removeXattr(n, name); err != nil && !unkept(err) {
				return x.fail("remove attribute of", k.path, err)
			}
		}
	}
	if err := x.ownerModeXattr(node{fd: k.fd}, k.path, h); err != nil {
		return err
	}
	return x.setTime(k.path, timespec(h))
}
