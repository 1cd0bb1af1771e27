package build

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/tarfs"
)

// A drop is where a source goes.
type drop struct {
	root  string       // the tree on the host
	dest  string       // absolute in it; with a slash at its end it is a directory
	who   *tarfs.Owner // nil: as in the source
	chmod chmod
}

// lead makes the directories that --parents shows, like those of the source.
func (d drop) lead(src copySource) error {
	if src.above == "." {
		return nil
	}
	to, err := resolve(d.root, d.dest)
	if err != nil {
		return err
	}
	list, err := d.missing(to)
	if err != nil {
		return err
	}
	from, at := src.pivot, to
	for part := range strings.SplitSeq(src.above, "/") {
		from, at = path.Join(from, part), path.Join(at, part)
		if fi, err := stat(d.root, at); err == nil && fi.IsDir() {
			continue
		}
		h := dirHeader(at, d.owner())
		if rel, err := src.from.find(from); err == nil {
			if fi, err := stat(src.from.dir, rel); err == nil {
				h.Mode, h.ModTime = int64(fi.Mode().Perm()), fi.ModTime()
			}
		}
		list = append(list, h)
	}
	return writeDirs(d.root, list)
}

// owner is that of directories that are made on the way.
func (d drop) owner() tarfs.Owner {
	if d.who == nil {
		return tarfs.Owner{}
	}
	return *d.who
}

// directory copies what is in the directory src into that at dest.
func (d drop) directory(ctx context.Context, src copySource) error {
	to, err := resolve(d.root, d.dest)
	if err != nil {
		return err
	}
	list, err := d.missing(to)
	if err != nil {
		return errs.Wrap(err, "failed to copy directory")
	}
	sub, name := src.rel, to
	if sub == "." {
		sub = ""
	}
	if name == "." {
		name = ""
	}
	return src.from.pour(ctx, d.root, "", tarfs.PackOptions{Sub: sub, Name: name, Bare: true, Skip: src.from.skip(src.rel, src.exclude), Edit: d.edit}, list...)
}

// file copies the file src to dest, or into it.
func (d drop) file(ctx context.Context, src copySource) error {
	to, err := resolve(d.root, d.dest)
	if err != nil {
		return err
	}
	fi, err := stat(d.root, to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if strings.HasSuffix(d.dest, "/") || err == nil && fi.IsDir() {
		to = path.Join(to, src.name)
	}
	list, err := d.missing(path.Dir(to))
	if err != nil {
		return errs.Wrap(err, "failed to create new directory")
	}
	return src.from.pour(ctx, d.root, "", tarfs.PackOptions{Sub: src.rel, Name: to, Edit: d.edit}, list...)
}

// missing lists the entries of the directories that have to be made for dir to be there. dir has no symbolic links in it.
func (d drop) missing(dir string) (list []*tar.Header, err error) {
	if dir == "." {
		return nil, nil
	}
	at := "."
	for part := range strings.SplitSeq(dir, "/") {
		at = path.Join(at, part)
		fi, err := stat(d.root, at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			list = append(list, dirHeader(at, d.owner()))
		case err != nil:
			return nil, err
		case !fi.IsDir():
			return nil, errs.New(errs.Invalid, "mkdir /%s: not a directory", at)
		}
	}
	return list, nil
}

func dirHeader(at string, o tarfs.Owner) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: at + "/", Mode: 0o755, Uid: o.UID, Gid: o.GID, ModTime: time.Now(), Format: tar.FormatPAX}
}

// writeDirs makes directories in a tree.
func writeDirs(root string, list []*tar.Header) error {
	if len(list) == 0 {
		return nil
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range list {
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	_, err := tarfs.Extract(context.Background(), root, &b, tarfs.Options{})
	return err
}

// makeDir makes a directory and those above it in the tree at root, if it isn't there.
func makeDir(_ context.Context, root, dir string) error {
	to, err := resolve(root, dir)
	if err != nil {
		return err
	}
	list, err := drop{root: root}.missing(to)
	if err != nil {
		return errs.New(errs.Invalid, "Cannot mkdir: %s is not a directory", dir)
	}
	return writeDirs(root, list)
}

// lookUp reads USER[:GROUP], names being those of the tree's own files. A group that isn't said has the user's name, as dockerd has it.
func lookUp(root, spec string) (o tarfs.Owner, err error) {
	name, group, ok := strings.Cut(spec, ":")
	if !ok {
		group = name
	}
	if strings.Contains(group, ":") {
		return o, errs.New(errs.Invalid, "invalid chown string provided: %s", spec)
	}
	if o.UID, err = id(name, func() (int, bool, error) {
		b, err := readFile(root, "/etc/passwd", maxDockerfile)
		if err != nil {
			return 0, false, err
		}
		list, err := user.ParsePasswdFilter(bytes.NewReader(b), func(u user.User) bool { return u.Name == name })
		if err != nil || len(list) == 0 {
			return 0, false, err
		}
		return list[0].Uid, true, nil
	}); err != nil {
		return o, fmt.Errorf("can't find uid for user %s: %w", name, missing(err, "user", name))
	}
	if o.GID, err = id(group, func() (int, bool, error) {
		b, err := readFile(root, "/etc/group", maxDockerfile)
		if err != nil {
			return 0, false, err
		}
		list, err := user.ParseGroupFilter(bytes.NewReader(b), func(g user.Group) bool { return g.Name == group })
		if err != nil || len(list) == 0 {
			return 0, false, err
		}
		return list[0].Gid, true, nil
	}); err != nil {
		return o, fmt.Errorf("can't find gid for group %s: %w", group, missing(err, "group", group))
	}
	return o, nil
}

var errNoEntry = errors.New("no entry")

func missing(err error, what, name string) error {
	if err == errNoEntry {
		return fmt.Errorf("no such %s: %s", what, name)
	}
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("open /etc/%s: no such file or directory", map[string]string{"user": "passwd", "group": "group"}[what])
	}
	return err
}

// id is a number as it stands, or what look finds.
func id(s string, look func() (int, bool, error)) (int, error) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return int(n), nil
	}
	n, ok, err := look()
	if err == nil && !ok {
		err = errNoEntry
	}
	return n, err
}
