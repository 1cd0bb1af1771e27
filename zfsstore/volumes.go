package zfsstore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// MakeVolume makes an empty volume and returns its path. One that exists is returned as it is.
func (s *Store) MakeVolume(ctx context.Context, id brig.RID, size int64) (string, error) {
	unlock, err := s.lockRoot(ctx, id)
	if err != nil {
		return "", err
	}
	defer unlock()
	p, err := s.d.makeVolume(ctx, id, size)
	return p, errs.Wrap(err, "make volume %s", id)
}

// mountPoint is where a volume that shows something else is mounted. It lies apart from the volumes with data, so that nothing that
// deletes data ever comes near to what is mounted there.
func (s *Store) mountPoint(id brig.RID) string { return filepath.Join(s.dir, "vm", string(id)) }

// MakeMountPoint makes the directory that MountVolume mounts on and returns its path. One that exists is returned as it is.
func (s *Store) MakeMountPoint(ctx context.Context, id brig.RID) (string, error) {
	unlock, err := s.lockRoot(ctx, id)
	if err != nil {
		return "", err
	}
	defer unlock()
	dir := s.mountPoint(id)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", errs.Wrap(err, "make the mount point of volume %s", id)
	}
	fault.Point("volume.mountpoint")
	return dir, syncDir(filepath.Dir(dir))
}

// MountVolume mounts m on the volume's mount point, unless something is mounted there already. Errors are the kernel's, as Invalid; an open directory
// is NotImplemented where what is mounted can't be unmounted before what is mounted of it.
func (s *Store) MountVolume(ctx context.Context, id brig.RID, m brig.VolumeMount) error {
	unlock, err := s.lockRoot(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	dir := s.mountPoint(id)
	if mounted, err := mountinfo.Mounted(dir); err != nil || mounted {
		return errs.Wrap(err, "look at the mount point of volume %s", id)
	}
	if m.Dir != nil {
		return bindVolume(ctx, dir, m.Dir)
	}
	return errs.As(errs.Invalid, mountVolume(ctx, dir, m))
}

// UnmountVolume takes away all that is mounted on the volume's mount point; one that is not there, or not mounted, is fine.
func (s *Store) UnmountVolume(ctx context.Context, id brig.RID) error {
	unlock, err := s.lockRoot(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return s.unmountVolume(id)
}

// unmountVolume does not wait for who still uses the mount on the host: what is busy goes out of sight now and away later.
func (s *Store) unmountVolume(id brig.RID) error {
	dir := s.mountPoint(id)
	for {
		mounted, err := mountinfo.Mounted(dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !mounted {
			return nil
		}
		if err == nil {
			if err = tryUnmount(dir); isBusy(err) {
				s.log.Warn("a volume's mount stays busy and is taken away by force", "path", dir)
				err = forceUnmount(dir)
			}
		}
		if err != nil {
			return tooBusy(dir, err)
		}
	}
}

// RemoveVolume removes a volume with all that is in it; one that is not there is removed already. What is mounted on it is only unmounted.
func (s *Store) RemoveVolume(ctx context.Context, id brig.RID) error {
	unlock, err := s.lockRoot(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.removeMountPoint(id); err != nil {
		return err
	}
	return errs.Wrap(s.d.removeVolume(ctx, id), "remove volume %s", id)
}

// removeMountPoint can't delete anything that was mounted: rmdir(2) takes only what is empty and no mount point.
func (s *Store) removeMountPoint(id brig.RID) error {
	if err := s.unmountVolume(id); err != nil {
		return err
	}
	if err := os.Remove(s.mountPoint(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap(err, "remove the mount point of volume %s", id)
	}
	return nil
}

// sweepMountPoints removes those that keep doesn't know.
func (s *Store) sweepMountPoints(k keep) error {
	list, err := os.ReadDir(filepath.Join(s.dir, "vm"))
	all := []error{err}
	for _, e := range list {
		if id := brig.RID(e.Name()); id.Valid() && !k.volumes[id] && !k.active(id) {
			all = append(all, s.removeMountPoint(id))
		}
	}
	return errors.Join(all...)
}
