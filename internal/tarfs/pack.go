package tarfs

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// PackOptions say what goes into an archive and under which names; the zero value packs all that is in a directory, with names
// relative to it and without an entry for the directory itself.
type PackOptions struct {
	// Prefix ("rootfs/") goes before every name; the top directory then gets an entry of that name.
	Prefix string
	// Name is the top entry's own name, after Prefix: a file or a directory, whose contents come as Name/…. With "/" every name
	// begins with a slash.
	Name string
	// Sub is the part of the tree to pack, a path beneath it without symlinks; "": all. If it is not a directory, Name must be set.
	Sub string
	// Skip leaves out a path (relative to Sub, slashes) and what is beneath it; nil: nothing.
	Skip func(rel string) bool
	// Bare leaves out the entry of the top directory itself.
	Bare bool
	// Edit changes an entry's owner, mode, time or attributes before it is written; nil: nothing is changed. Its name, type and size stay.
	Edit func(h *tar.Header)
}

// Pack writes the tree dir to w as an archive in PAX format with numeric owners, sorted, so that one tree gives always the same bytes.
// Hard links beyond the first are entries of their kind; sockets are left out. Symlinks are never followed. A file that shrinks
// while it is read is filled up with zeros.
func Pack(ctx context.Context, w io.Writer, dir string, o PackOptions) error {
	tw := tar.NewWriter(w)
	if err := PackTo(ctx, tw, dir, o); err != nil {
		return err
	}
	return tw.Close()
}

// A Sink takes the entries of an archive one after the other, as a tar.Writer does: a header, then the content of a regular file.
type Sink interface {
	WriteHeader(h *tar.Header) error
	io.Writer
}

// PackTo is Pack into an archive that the caller began and will close, or whatever else takes its entries.
func PackTo(ctx context.Context, tw Sink, dir string, o PackOptions) error {
	fd, err := openRoot(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	base := "."
	if sub := strings.Trim(path.Clean("/"+o.Sub), "/"); sub != "" {
		up, last := split(sub)
		if fd, err = descend(fd, up); err != nil {
			return fmt.Errorf("open %q: %w", up, err)
		}
		defer unix.Close(fd)
		base = last
	}
	p := newPacker(ctx, tw, o)
	as := strings.TrimRight(o.Prefix+o.Name, "/")
	if o.Name == "/" {
		as = "/"
	}
	return p.pack(fd, base, "", as)
}

// descend opens the directory at a clean relative path, following nothing.
func descend(fd int, at string) (int, error) {
	cur, err := openDir(fd, ".")
	if at == "." {
		return cur, err
	}
	for _, c := range strings.Split(at, "/") {
		if err != nil {
			return -1, err
		}
		next, e := openDir(cur, c)
		unix.Close(cur)
		cur, err = next, e
	}
	return cur, err
}

type inode struct{ dev, ino uint64 }

type packer struct {
	ctx   context.Context
	tw    Sink
	o     PackOptions
	links map[inode]string // name of the first link
	buf   []byte
	wrote int64 // entries
	bytes int64 // of regular files

	latest *time.Time // no entry's time is later; nil: they are as they are
}

func newPacker(ctx context.Context, tw Sink, o PackOptions) *packer {
	return &packer{ctx: ctx, tw: tw, o: o, links: map[inode]string{}, buf: make([]byte, 128<<10)}
}

// pack writes base in dir under the archive name as; rel is its path from the top, "" for the top itself.
func (p *packer) pack(dir int, base, rel, as string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	st, err := lstat(dir, base)
	if err == unix.ENOENT && rel != "" {
		return nil // removed while we were reading its directory
	}
	if err != nil {
		return fmt.Errorf("stat %q: %w", as, err)
	}
	if st.isDir() {
		return p.dir(dir, base, rel, as)
	}
	if as == "" {
		return invalid("pack: the top of the archive is not a directory and has no name")
	}
	if st.kind() == unix.S_IFREG {
		return p.regular(dir, base, as)
	}
	if st.kind() == unix.S_IFSOCK {
		return nil
	}
	h := header(&st, as)
	if st.isLink() {
		if h.Linkname, err = readlink(dir, base); err != nil {
			return fmt.Errorf("read link %q: %w", as, err)
		}
	}
	return p.write(h, node{dir, base, -1}, &st)
}

func (p *packer) dir(dir int, base, rel, as string) error {
	fd, err := openDir(dir, base)
	if err != nil {
		return fmt.Errorf("open %q: %w", as, err)
	}
	defer unix.Close(fd)
	if as != "" && (rel != "" || !p.o.Bare) {
		if err := p.dirEntry(fd, as); err != nil {
			return err
		}
	}
	list, err := names(fd)
	if err != nil {
		return fmt.Errorf("list %q: %w", as, err)
	}
	for _, n := range list {
		r := n
		if rel != "" {
			r = rel + "/" + n
		}
		if p.o.Skip != nil && p.o.Skip(r) {
			continue
		}
		name := n
		if as != "" {
			name = strings.TrimSuffix(as, "/") + "/" + n
		}
		if err := p.pack(fd, n, r, name); err != nil {
			return err
		}
	}
	return nil
}

// dirEntry writes the entry of the open directory fd.
func (p *packer) dirEntry(fd int, as string) error {
	st, err := fstat(fd)
	if err != nil {
		return fmt.Errorf("stat %q: %w", as, err)
	}
	return p.write(header(&st, strings.TrimSuffix(as, "/")+"/"), node{fd: fd}, &st)
}

// regular opens without blocking: what was a file a moment ago may be a fifo now.
func (p *packer) regular(dir int, base, as string) error {
	fd, err := openat(dir, base, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %q: %w", as, err)
	}
	f := os.NewFile(uintptr(fd), as)
	defer f.Close()
	st, err := fstat(fd)
	if err != nil {
		return fmt.Errorf("stat %q: %w", as, err)
	}
	if st.kind() != unix.S_IFREG {
		return nil
	}
	h := header(&st, as)
	if err := p.write(h, node{dir, base, fd}, &st); err != nil || h.Typeflag == tar.TypeLink {
		return err
	}
	p.bytes += st.size
	return p.content(f, st.size)
}

func (p *packer) content(f *os.File, size int64) error {
	r := &ctxReader{p.ctx, f}
	n, err := io.CopyBuffer(struct{ io.Writer }{p.tw}, io.LimitReader(r, size), p.buf)
	for err == nil && n < size {
		clear(p.buf)
		k, werr := p.tw.Write(p.buf[:min(int64(len(p.buf)), size-n)])
		n, err = n+int64(k), werr
	}
	return err
}

func header(st *info, as string) *tar.Header {
	h := &tar.Header{
		Name: as, Mode: int64(st.mode & 0o7777), Uid: int(st.uid), Gid: int(st.gid), Format: tar.FormatPAX,
		ModTime: time.Unix(st.mtime.Unix()),
	}
	switch st.kind() {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.kind() == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.rdev)), int64(unix.Minor(st.rdev))
	}
	return h
}

// write writes the header, turned into a hard link if the file has been packed already, or with its extended attributes.
func (p *packer) write(h *tar.Header, n node, st *info) error {
	p.wrote++
	if p.latest != nil && h.ModTime.After(*p.latest) {
		h.ModTime = *p.latest
	}
	if !st.isDir() && st.nlink > 1 {
		key := inode{st.dev, st.ino}
		if first, ok := p.links[key]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return p.tw.WriteHeader(h)
		}
		p.links[key] = h.Name
	}
	attrs, err := xattrs(n)
	if err != nil {
		return fmt.Errorf("list attributes of %q: %w", h.Name, err)
	}
	for name, v := range attrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[schily+name] = v
	}
	if p.o.Edit != nil {
		p.o.Edit(h)
	}
	return p.tw.WriteHeader(h)
}
