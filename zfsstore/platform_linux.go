package zfsstore

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// syncAll writes the file system that dir lies on to disk, which is much faster than fsync on each of many new files.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// topDir is FS_TOPDIR_FL of linux/fs.h, chattr(1)'s T.
const topDir = 0x00020000

// spread asks the file system not to put what is made in the directories of dir near each other. It is ext4's hint for unrelated
// trees; other file systems refuse it, which costs nothing. Without it each layer goes where the last one went: layers that are
// applied at once contend for the same block groups, and without a journal ext4 looks, for each new file, at every inode there
// that was deleted in the last minutes (recently_deleted in fs/ext4/ialloc.c): ten times slower just after an image was removed.
func spread(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	if flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil && flags&topDir == 0 {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topDir))
	}
}

func deviceOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return st.Dev, nil
}

func tryUnmount(dir string) error   { return unix.Unmount(dir, unix.UMOUNT_NOFOLLOW) }
func forceUnmount(dir string) error { return unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH) }
func isBusy(err error) bool         { return errors.Is(err, unix.EBUSY) }

// Magic numbers of statfs(2) that linux/magic.h lacks.
const zfsMagic = 0x2fc12fc1

var fsNames = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "extfs", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.F2FS_SUPER_MAGIC: "f2fs", unix.NFS_SUPER_MAGIC: "nfs", zfsMagic: "zfs",
}

// backing names the file system that dir lies on, in docker info's words.
func backing(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "unknown"
	}
	if n, ok := fsNames[int64(st.Type)]; ok {
		return n
	}
	return fmt.Sprintf("unknown (%#x)", st.Type)
}

// zfsDatasetOf returns the dataset that dir lies on, if it is ZFS.
func zfsDatasetOf(dir string) (string, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || int64(st.Type) != zfsMagic {
		return "", false
	}
	list, err := mountinfo.GetMounts(mountinfo.ParentsFilter(dir))
	if err != nil {
		return "", false
	}
	best := ""
	name := ""
	for _, m := range list {
		if m.FSType == "zfs" && len(m.Mountpoint) >= len(best) {
			best, name = m.Mountpoint, m.Source
		}
	}
	return name, name != "" && !strings.Contains(name, "@")
}

// privateMount makes dir a mount point of its own whose mounts propagate nowhere. A second time it does nothing.
func privateMount(dir string) error {
	m, err := mountinfo.Mounted(dir)
	if err != nil {
		return err
	}
	if !m {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s onto itself: %w", dir, err)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make %s private: %w", dir, err)
	}
	return nil
}

// releaseMount undoes privateMount unless something is still mounted beneath.
func releaseMount(dir string) error {
	err := tryUnmount(dir)
	if err == unix.EINVAL || err == unix.EBUSY {
		return nil
	}
	return err
}
