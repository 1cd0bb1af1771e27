package runtime

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/user"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/tarfs"
)

// view of a container's files, from use to close.
type fileView struct {
	d      *brig.Container
	ref    string // what the request called it
	places []place
	close  func()
}

// openFiles mounts the container's root file system if it isn't, and lists what lies where.
func (c *Containers) openFiles(ctx context.Context, ref string) (*fileView, error) {
	ct, err := c.hold(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer ct.lock.release()
	d := c.record(ct)
	if d.State == brig.Dead || d.State == brig.Removing {
		return nil, errs.New(errs.Conflict, "container %s is marked for removal", d.ID)
	}
	if err := c.useRoot(ctx, ct); err != nil {
		return nil, errs.Wrap(err, "mount root file system")
	}
	if err := c.useVolumes(ctx, d); err != nil {
		c.log.Warn("a volume is empty for an access to files", "container", d.ID.Short(), "err", err)
	}
	v := &fileView{d: d, ref: ref, places: places(d, ct.root)}
	v.close = sync.OnceFunc(func() {
		ct.lock <- struct{}{}
		defer ct.lock.release()
		if err := c.leaveRoot(context.WithoutCancel(ctx), ct); err != nil {
			c.log.Warn("unmount after an access to files", "container", d.ID.Short(), "err", err)
		}
	})
	return v, nil
}

// places lists a container's mounts, the root first.
func places(d *brig.Container, root string) []place {
	out := []place{{host: root, at: "/", rw: !d.Spec.ReadOnly}}
	for _, f := range [][2]string{{d.ResolvConfPath, "/etc/resolv.conf"}, {d.HostnamePath, "/etc/hostname"}, {d.HostsPath, "/etc/hosts"}} {
		if st, err := os.Stat(f[0]); err == nil && st.Mode().IsRegular() { // from the first run on, also while it is stopped
			out = append(out, place{host: f[0], at: f[1], rw: !d.Spec.ReadOnly})
		}
	}
	for _, m := range d.Mounts {
		p := place{at: m.Target, rw: m.RW, volume: true}
		if m.Type != brig.MountTmpfs {
			src, err := hostSource(d, m)
			if err != nil {
				continue // a source that isn't there shows nothing
			}
			p.host = src
		} else if !d.State.HasProcess() {
			continue
		}
		p.at = landing(out, p.at)
		out = append(out, p)
	}
	return out
}

// landing is where a mount at target lies once the links on the way to it are followed, as the OCI runtime follows them.
func landing(places []place, target string) string {
	s, err := resolve(places, target, true)
	switch {
	case err == nil:
		return s.virtual
	case errors.Is(err, fs.ErrNotExist) && target != "/":
		return path.Join(landing(places, path.Dir(target)), path.Base(target))
	}
	return target
}

// at resolves a path of the API: the last component's symlink is followed only with a trailing slash or dot.
func (v *fileView) at(p string, follow bool) (spot, error) {
	follow = follow || strings.HasSuffix(p, "/") || path.Base(p) == "."
	s, err := resolve(v.places, p, follow)
	if err == nil && !s.exists {
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		return s, errs.New(errs.NotFound, "Could not find the file %s in container %s", p, v.ref)
	}
	return s, err
}

// stat describes a spot under the name that the request had.
func (v *fileView) stat(p string, s spot) brig.PathStat {
	st := brig.PathStat{Name: path.Base(path.Clean("/" + p)), Size: s.info.Size(), Mode: uint32(s.info.Mode()), Mtime: s.info.ModTime().Format(time.RFC3339Nano)}
	if s.info.Mode()&fs.ModeSymlink != 0 {
		if to, err := resolve(v.places, p, true); err == nil {
			st.LinkTarget = to.virtual
		}
	}
	return st
}

// StatPath describes a file.
func (c *Containers) StatPath(ctx context.Context, ref, p string) (brig.PathStat, error) {
	v, err := c.openFiles(ctx, ref)
	if err != nil {
		return brig.PathStat{}, err
	}
	defer v.close()
	s, err := v.at(p, false)
	if err != nil {
		return brig.PathStat{}, err
	}
	return v.stat(p, s), nil
}

// GetArchive streams a file or directory as a tar, mounts beneath it included. The caller closes the reader.
func (c *Containers) GetArchive(ctx context.Context, ref, p string) (io.ReadCloser, brig.PathStat, error) {
	v, err := c.openFiles(ctx, ref)
	if err != nil {
		return nil, brig.PathStat{}, err
	}
	s, err := v.at(p, false)
	if err != nil {
		v.close()
		return nil, brig.PathStat{}, err
	}
	name := path.Base(path.Clean("/" + p)) // "/" for the root: the docker CLI puts the new name right before the slash
	if path.Base(p) == "." {
		name = "."
	}
	c.event(v.d, "archive-path")
	return stream(v.close, func(w io.Writer) error { return v.pack(ctx, w, s, name) }), v.stat(p, s), nil
}

// pack writes s as name, then what is mounted beneath it.
func (v *fileView) pack(ctx context.Context, w io.Writer, s spot, name string) error {
	tw := tar.NewWriter(w)
	under := v.beneath(s)
	skip := func(rel string) bool {
		return slices.ContainsFunc(under, func(p place) bool { return path.Join(s.virtual, rel) == p.at })
	}
	if err := tarfs.PackTo(ctx, tw, s.base, tarfs.PackOptions{Name: name, Sub: s.rel, Skip: skip}); err != nil {
		return err
	}
	for _, p := range under {
		t, err := resolve(v.places, p.at, true)
		if err != nil || !t.exists {
			continue
		}
		rel, err := filepath.Rel(s.virtual, p.at)
		if err != nil {
			return err
		}
		o := tarfs.PackOptions{Name: strings.TrimSuffix(name, "/") + "/" + rel, Sub: t.rel, Skip: func(rel string) bool {
			return slices.ContainsFunc(under, func(q place) bool { return q.at != p.at && path.Join(p.at, rel) == q.at })
		}}
		if err := tarfs.PackTo(ctx, tw, t.base, o); err != nil {
			return err
		}
	}
	return tw.Close()
}

// beneath lists the mounts strictly under s that have files on the host.
func (v *fileView) beneath(s spot) []place {
	if !s.info.IsDir() {
		return nil
	}
	var out []place
	for _, p := range v.places {
		if p.host != "" && p.at != s.virtual && under(p.at, s.virtual) {
			out = append(out, p)
		}
	}
	return out
}

// stream runs write in a goroutine of its own, which the returned reader's Close ends and waits for.
func stream(finish func(), write func(io.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	s := &streamer{PipeReader: r, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer finish()
		w.CloseWithError(write(w))
	}()
	return s
}

type streamer struct {
	*io.PipeReader
	done chan struct{}
}

// Close makes the writer fail if it still writes, and waits for it.
func (s *streamer) Close() error {
	err := s.PipeReader.Close()
	<-s.done
	return err
}

// Export streams the whole root file system, without volumes, as a tar.
func (c *Containers) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	v, err := c.openFiles(ctx, ref)
	if err != nil {
		return nil, err
	}
	c.event(v.d, "export")
	return stream(v.close, func(w io.Writer) error {
		return tarfs.Pack(ctx, w, v.places[0].host, tarfs.PackOptions{})
	}), nil
}

// PutArchive extracts a tar, compressed or not, into a directory of the container. Owners are the archive's; with copyUIDGID the
// container's user.
func (c *Containers) PutArchive(ctx context.Context, ref, p string, noOverwriteDirNonDir, copyUIDGID bool, r io.Reader) error {
	v, err := c.openFiles(ctx, ref)
	if err != nil {
		return err
	}
	defer v.close()
	s, err := v.at(p, true)
	if err != nil {
		return err
	}
	switch {
	case !s.info.IsDir():
		return errs.New(errs.Invalid, "extraction point is not a directory")
	case !s.place.rw && s.place.volume:
		return errs.New(errs.Forbidden, "mounted volume is marked read-only")
	case !s.place.rw:
		return errs.New(errs.Forbidden, "container rootfs is marked read-only")
	}
	o := tarfs.Options{Sub: s.virtual, Mounts: v.mounts(), NoOverwriteDirNonDir: noOverwriteDirNonDir}
	if copyUIDGID {
		if o.Owner, err = v.owner(); err != nil {
			return err
		}
	}
	plain, err := decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	if _, err := tarfs.Extract(ctx, v.places[0].host, plain, o); err != nil {
		return errs.Wrap(err, "extract to %s", p)
	}
	c.event(v.d, "extract-to-dir")
	return nil
}

// mounts are the places as the extractor knows them.
func (v *fileView) mounts() []tarfs.Mount {
	out := make([]tarfs.Mount, 0, len(v.places))
	for _, p := range v.places {
		m := tarfs.Mount{At: path.Join(".", p.at[1:]), ReadOnly: !p.rw}
		if st, err := os.Stat(p.host); p.host == "" {
			m.Err = unreachable(p.at)
		} else if err != nil || st.IsDir() { // what is no more has an error when it is opened
			m.Dir = p.host
		}
		out = append(out, m)
	}
	return out
}

// owner looks the container's user up in its own passwd and group; nil for none.
func (v *fileView) owner() (*tarfs.Owner, error) {
	if v.d.Spec.User == "" {
		return nil, nil
	}
	passwd, group := v.open("/etc/passwd"), v.open("/etc/group")
	defer passwd.Close()
	defer group.Close()
	u, err := user.GetExecUser(v.d.Spec.User, nil, passwd, group)
	if err != nil {
		return nil, errs.As(errs.Invalid, err)
	}
	return &tarfs.Owner{UID: u.Uid, GID: u.Gid}, nil
}

// open opens a file; one that can't be read is as an empty one.
func (v *fileView) open(p string) io.ReadCloser {
	s, err := resolve(v.places, p, true)
	if err == nil && s.exists && s.info.Mode().IsRegular() {
		if f, err := s.open(); err == nil {
			return f
		}
	}
	return io.NopCloser(strings.NewReader(""))
}
