package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// plainSource refuses a host volume whose source isn't there, or that a symbolic link leads to (ace.md, "Volume Setup").
func plainSource(source string) error {
	at := "/"
	for part := range strings.SplitSeq(strings.Trim(source, "/"), "/") {
		at = filepath.Join(at, part)
		st, err := os.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return errs.New(errs.Invalid, "the source of a host volume does not exist: %s", source)
		case err != nil:
			return errs.New(errs.Invalid, "the source of a host volume: %w", err)
		case st.Mode()&fs.ModeSymlink != 0:
			return errs.New(errs.Invalid, "the source of a host volume, %s, is reached by a symbolic link: %s", source, at)
		}
	}
	return nil
}

// appcTargets makes room in d's new root file system for the mounts that follow appc's rules: a directory, with those above it, where
// nothing is, and in the place of a file. warnings name what is masked.
func (c *Containers) appcTargets(ctx context.Context, d *brig.Container) (warnings []string, err error) {
	var todo []brig.MountPoint
	for _, p := range d.Mounts {
		if asked(&d.Spec, p.Target).Appc {
			todo = append(todo, p)
		}
	}
	if len(todo) == 0 {
		return nil, nil
	}
	dir, err := c.cfg.RootFS.Mount(ctx, d.RootFS)
	if err != nil {
		return nil, errs.Wrap(err, "mount root file system")
	}
	defer func() { err = errors.Join(err, c.cfg.RootFS.Unmount(context.WithoutCancel(ctx), d.RootFS)) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, errs.Wrap(err, "open the root file system")
	}
	defer root.Close()
	for _, p := range todo {
		w, err := appcTarget(root, p)
		if err != nil {
			return nil, errs.Wrap(err, "mount at %s", p.Target)
		}
		if w != "" {
			warnings = append(warnings, w)
		}
	}
	return warnings, nil
}

// appcTarget makes room for one mount. Links that lead out of the root are left to the mount itself, which resolves them inside.
func appcTarget(root *os.Root, p brig.MountPoint) (warning string, err error) {
	src, err := os.Stat(p.Source)
	if err != nil {
		return "", err
	}
	name := strings.TrimPrefix(p.Target, "/")
	st, err := root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && src.IsDir():
		return "", outside(root.MkdirAll(name, 0o755))
	case errors.Is(err, fs.ErrNotExist):
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return "", outside(err)
		}
		return "", outside(touch(root, name))
	case err != nil:
		return "", outside(err)
	case st.IsDir() && !src.IsDir():
		return "", errs.New(errs.Invalid, "%s is a file, and the image has a directory there", p.Source)
	case st.IsDir():
		if f, err := root.Open(name); err == nil {
			defer f.Close()
			if names, _ := f.Readdirnames(1); len(names) > 0 {
				return fmt.Sprintf("the volume at %s masks files of the image", p.Target), nil
			}
		}
		return "", nil
	case src.IsDir():
		if err := root.Remove(name); err != nil {
			return "", err
		}
		return fmt.Sprintf("the volume at %s takes the place of a file of the image", p.Target), root.Mkdir(name, 0o755)
	}
	return fmt.Sprintf("the volume at %s masks a file of the image", p.Target), nil
}

// outside forgives that a path can't be followed within the root.
func outside(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) && strings.Contains(p.Err.Error(), "escapes") {
		return nil
	}
	return err
}

// checkCwd refuses a working directory that is to be there, and isn't, in the image or in what is mounted.
func checkCwd(d *brig.Container, root string) error {
	if !d.Spec.CwdExists {
		return nil
	}
	s, err := resolve(places(d, root), d.Spec.WorkingDir, true)
	switch {
	case errs.Is(err, errs.NotImplemented): // in a tmpfs nobody can look
		return nil
	case err == nil && s.exists && s.info.IsDir():
		return nil
	case err == nil && s.exists:
		return errs.New(errs.Invalid, "the working directory %s is not a directory", d.Spec.WorkingDir)
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return errs.New(errs.Invalid, "the working directory %s does not exist in the image or its volumes", d.Spec.WorkingDir)
	}
	return errs.Wrap(err, "find the working directory %s", d.Spec.WorkingDir)
}
