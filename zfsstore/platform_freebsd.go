package zfsstore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncAll asks for all file systems to be written; FreeBSD has no call for one.
func syncAll(string) error { return unix.Sync() }

// spread: ZFS and UFS need no hint.
func spread(string) {}

func deviceOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return st.Dev, nil
}

func tryUnmount(dir string) error   { return unix.Unmount(dir, 0) }
func forceUnmount(dir string) error { return unix.Unmount(dir, unix.MNT_FORCE) }
func isBusy(err error) bool         { return errors.Is(err, unix.EBUSY) }

// backing names the file system that dir lies on.
func backing(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(st.Fstypename[:])
}

// zfsDatasetOf returns the dataset that dir lies on, if it is ZFS.
func zfsDatasetOf(dir string) (string, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || unix.ByteSliceToString(st.Fstypename[:]) != "zfs" {
		return "", false
	}
	return unix.ByteSliceToString(st.Mntfromname[:]), true
}

// privateMount: FreeBSD's mounts propagate nowhere.
func privateMount(string) error { return nil }
func releaseMount(string) error { return nil }
