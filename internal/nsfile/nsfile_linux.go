// Package nsfile keeps Linux namespaces alive by files that they are bound to (namespaces(7), nsfs(5)).
package nsfile

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
)

// Private makes dir, and a private mount of it, so that no mount namespace that is made elsewhere on the host holds on to what is mounted in it.
func Private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errs.Wrap(err, "make the directory for namespaces")
	}
	if !IsMountPoint(dir) {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return errs.Wrap(err, "bind %s to itself", dir)
		}
	}
	return errs.Wrap(unix.Mount("", dir, "", unix.MS_PRIVATE, ""), "make %s private", dir)
}

// IsMountPoint reports whether dir is the root of a mount: statx(2), STATX_ATTR_MOUNT_ROOT.
func IsMountPoint(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BASIC_STATS, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// OnThread runs f on a thread of its own, which ends with it.
func OnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not fit for anything else afterwards
		done <- f()
	}()
	return <-done
}

// Mine is where the calling thread's namespace of a kind (net, ipc, uts) is found.
func Mine(kind string) string {
	return "/proc/self/task/" + strconv.Itoa(unix.Gettid()) + "/ns/" + kind
}

// Touch makes the file that a namespace is to be bound to.
func Touch(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return errs.Wrap(err, "make a namespace's file")
	}
	return f.Close()
}

// Bind binds a namespace, as found at from, to file, which is there.
func Bind(from, file string) error {
	return errs.Wrap(unix.Mount(from, file, "", unix.MS_BIND, ""), "bind the namespace %s to %s", from, file)
}

// Bound reports whether a namespace is bound to file: nsfs(5), NSFS_MAGIC.
func Bound(file string) bool {
	var st unix.Statfs_t
	return unix.Statfs(file, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Unbind unmounts what is mounted on a path, be it a namespace or anything else. Idempotent.
func Unbind(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: it is no mount point
		return errs.Wrap(err, "unmount %s", path)
	}
	return nil
}

// Remove removes a file that Unbind has freed. Idempotent.
func Remove(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap(err, "remove %s", file)
	}
	return nil
}
