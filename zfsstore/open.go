package zfsstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// Config says where a store is and how it shall work.
type Config struct {
	Root   string // directory of the store alone, absolute; made if missing
	Driver string // "auto" or "", "zfs", "overlay", "copy"
	// ZFSParent is the dataset beneath which zfs keeps its own; "": one is made beneath the dataset that Root lies on.
	ZFSParent string
	Log       *slog.Logger // nil: none
}

// Open opens or makes a store. The driver is recorded in it: auto goes on with the one that made the store, and another one is refused
// (Conflict), because it could not read what is there. Only one process may have a store open; brigd's lock sees to that.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if !filepath.IsAbs(c.Root) {
		return nil, errs.New(errs.Invalid, "open store: %q is not an absolute path", c.Root)
	}
	if err := os.MkdirAll(c.Root, 0o711); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	root, err := filepath.EvalSymlinks(c.Root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	c.Root = root
	for _, d := range []string{"l", "c", "v", "w", "mnt", "e", "vm"} {
		if err := os.MkdirAll(filepath.Join(c.Root, d), 0o711); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	for _, d := range []string{"w", "v"} { // where layers, containers and volumes are made
		spread(filepath.Join(c.Root, d))
	}
	d, err := choose(ctx, c)
	if err != nil {
		return nil, errs.Wrap(err, "open store %s", c.Root)
	}
	s, err := newStore(ctx, c.Root, d, c.Log)
	if err != nil {
		return nil, errs.Wrap(errors.Join(err, d.close()), "open store %s", c.Root)
	}
	return s, nil
}

// choose opens the driver that c, or the store itself, names.
func choose(ctx context.Context, c Config) (driver, error) {
	file := filepath.Join(c.Root, "driver")
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	made := strings.TrimSpace(string(b))
	want := c.Driver
	if want == "" {
		want = "auto"
	}
	if made != "" && want != "auto" && want != made {
		return nil, errs.New(errs.Conflict, "it was made by the %s driver, not by %s; use another root, or %s", made, want, made)
	}
	if made != "" {
		want = made
	}
	d, err := openDriver(ctx, c, want)
	if err != nil {
		return nil, err
	}
	if made == "" {
		name, _ := d.describe()
		if err := writeFile(file, []byte(name+"\n")); err != nil {
			return nil, errors.Join(err, d.close())
		}
		if err := syncDir(c.Root); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	return d, nil
}

func openDriver(ctx context.Context, c Config, name string) (driver, error) {
	switch name {
	case "zfs":
		return openZFS(ctx, c)
	case "overlay":
		return openOverlay(ctx, c)
	case "copy":
		return openCopy(c), nil
	case "auto":
	default:
		return nil, errs.New(errs.Invalid, "unknown storage driver %q: want auto, zfs, overlay or copy", name)
	}
	_, onZFS := zfsDatasetOf(c.Root)
	if c.ZFSParent != "" || onZFS {
		d, err := openZFS(ctx, c)
		if err == nil {
			return d, nil
		}
		c.Log.Warn("zfs is not usable; trying the next storage driver", "err", err)
	}
	d, err := openOverlay(ctx, c)
	if err == nil {
		return d, nil
	}
	c.Log.Warn("overlay is not usable; every container will be a full copy of its image", "err", err)
	return openCopy(c), nil
}
