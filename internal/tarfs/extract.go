package tarfs

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// extractor is one run of Extract; it is for one goroutine.
type extractor struct {
	o      Options
	dirs   dirs
	lower  int // Options.Lower's directory; -1 before it is asked for
	times  map[string]unix.Timespec
	opaque map[string]bool // real paths that were made opaque
	made   map[string]bool // Apply: real paths that this layer brought
	buf    []byte
	stats  Stats
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
		o: o.withDefaults(), dirs: newDirs(fd), lower: -1, times: map[string]unix.Timespec{},
		opaque: map[string]bool{}, made: map[string]bool{}, buf: make([]byte, 256<<10),
	}
	defer x.close()
	br := bufio.NewReaderSize(r, 128<<10)
	if err := x.run(ctx, tar.NewReader(br)); err != nil {
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

func (x *extractor) run(ctx context.Context, tr *tar.Reader) error {
	if x.o.layer() {
		st, err := fstat(x.dirs.root.fd)
		if err != nil {
			return x.fail("stat", ".", err)
		}
		x.times["."] = st.mtime
	}
	rootNamed := false
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return archiveError(err)
		}
		if x.stats.Entries++; x.stats.Entries > x.o.MaxEntries {
			return invalid("archive has more than %d entries", x.o.MaxEntries)
		}
		x.dirs.trim()
		name, err := x.clean(h.Name)
		if err != nil {
			return err
		}
		rootNamed = rootNamed || name == "."
		if err := x.entry(ctx, name, h, tr); err != nil {
			return err
		}
	}
	return x.finish(rootNamed)
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

// fail says what was tried on which path beneath the root; nil stays nil. The text shows no host path.
func (x *extractor) fail(what, at string, err error) error {
	if err == nil {
		return nil
	}
	if err == unix.ENAMETOOLONG {
		return invalid("%s %q: %w", what, at, err)
	}
	return fmt.Errorf("%s %q: %w", what, at, err)
}

// note remembers that the layer itself brought at, so that its whiteouts spare it.
func (x *extractor) note(at string) {
	if x.o.Whiteouts == Apply {
		x.made[at] = true
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
	switch h.Typeflag {
	case tar.TypeReg, '\x00', tar.TypeGNUSparse, tar.TypeCont:
		return x.file(ctx, parent, base, h, r)
	case tar.TypeDir:
		return x.directory(parent, base, h)
	case tar.TypeLink:
		return x.hardlink(parent, base, h)
	}
	return x.special(parent, base, h)
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
		if st.isDir() {
			return invalid("cannot overwrite directory %q with non-directory %q", at, base)
		}
		return invalid("cannot overwrite non-directory %q with directory %q", at, base)
	}
	return x.remove(parent, base)
}

func (x *extractor) remove(parent *dir, base string) error {
	x.dirs.stale = true
	at := join(parent.path, base)
	if x.o.Whiteouts == Overlay {
		maps.DeleteFunc(x.opaque, func(p string, _ bool) bool { return p == at || strings.HasPrefix(p, at+"/") })
	}
	return x.fail("remove", at, removeAt(parent.fd, base))
}

func (x *extractor) file(ctx context.Context, parent *dir, base string, h *tar.Header, r io.Reader) error {
	at := join(parent.path, base)
	fd := -1
	err := x.create(parent, base, false, func() (err error) {
		fd, err = openat(parent.fd, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), at)
	defer f.Close()
	x.note(at)
	x.stats.Bytes += h.Size
	if err := x.content(ctx, f, h, r); err != nil {
		return err
	}
	if err := x.attrs(node{parent.fd, base, fd}, at, h); err != nil {
		return err
	}
	return x.fail("close", at, f.Close())
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (x *extractor) content(ctx context.Context, f *os.File, h *tar.Header, r io.Reader) error {
	sparse, total := isSparse(h), int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, x.buf)
		total += int64(n)
		if n > 0 {
			if werr := x.write(f, x.buf[:n], sparse); werr != nil {
				return x.fail("write", f.Name(), unpath(werr))
			}
		}
		if err == io.EOF || (err == io.ErrUnexpectedEOF && n < len(x.buf)) {
			break
		}
		if err != nil {
			return archiveError(err)
		}
	}
	if total != h.Size {
		return archiveError(io.ErrUnexpectedEOF)
	}
	if sparse {
		return x.fail("set size of", f.Name(), unpath(f.Truncate(h.Size)))
	}
	return nil
}

// unpath takes the errno out of an *os.PathError.
func unpath(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// write appends p; zero blocks of a sparse file become holes.
func (x *extractor) write(f *os.File, p []byte, sparse bool) error {
	if !sparse {
		_, err := f.Write(p)
		return err
	}
	const block = 4096
	var zero [block]byte
	for b := range slices.Chunk(p, block) {
		var err error
		if bytes.Equal(b, zero[:len(b)]) {
			_, err = f.Seek(int64(len(b)), io.SeekCurrent)
		} else {
			_, err = f.Write(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *extractor) directory(parent *dir, base string, h *tar.Header) error {
	at := join(parent.path, base)
	existed, hides := false, false
	err := retry(func() error { return unix.Mkdirat(parent.fd, base, 0o700) })
	if err == unix.EEXIST {
		st, e := lstat(parent.fd, base)
		existed = e == nil && st.isDir()
		hides = !existed
		err = nil
		if !existed {
			err = x.create(parent, base, true, func() error { return unix.Mkdirat(parent.fd, base, 0o700) })
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
	x.times[k.path] = timespec(h)
	return nil
}
