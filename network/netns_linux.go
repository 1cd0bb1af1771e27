package network

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// makeNetns makes a namespace bound to the container's file and returns it open.
func (h *host) makeNetns(id brig.ID) (*os.File, error) {
	path, err := h.netnsFile(id)
	if err != nil {
		return nil, err
	}
	fault.Point("netns.file")
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return errs.Wrap(err, "make a network namespace")
		}
		// No IPv6 on interfaces to come, unless their network has it; lo keeps ::1, as Docker has it.
		if err := sysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		self := "/proc/self/task/" + strconv.Itoa(unix.Gettid()) + "/ns/net"
		return errs.Wrap(unix.Mount(self, path, "", unix.MS_BIND, ""), "bind the network namespace to %s", path)
	})
	if err != nil {
		return nil, err
	}
	fault.Point("netns.bound")
	return os.Open(path)
}

// bind gives the namespace of a process the container's file.
func (h *host) bind(id brig.ID, pid int) error {
	path, err := h.netnsFile(id)
	if err != nil {
		return err
	}
	return errs.Wrap(unix.Mount(h.netnsOf(pid).Path, path, "", unix.MS_BIND, ""), "bind the network namespace of process %d to %s", pid, path)
}

// netnsFile makes the file that the container's namespace is to be bound to.
func (h *host) netnsFile(id brig.ID) (path string, err error) {
	if err := h.prepareDir(); err != nil {
		return "", err
	}
	path = h.netnsPath(id)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return "", errs.Wrap(err, "make the network namespace's file")
	}
	return path, f.Close()
}

// prepareDir makes dir a private mount, so that no namespace made elsewhere on the host holds on to ours.
func (h *host) prepareDir() error {
	if h.shared {
		return nil
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return errs.Wrap(err, "make the namespaces' directory")
	}
	if !isMountPoint(h.dir) {
		if err := unix.Mount(h.dir, h.dir, "", unix.MS_BIND, ""); err != nil {
			return errs.Wrap(err, "bind %s to itself", h.dir)
		}
	}
	if err := unix.Mount("", h.dir, "", unix.MS_PRIVATE, ""); err != nil {
		return errs.Wrap(err, "make %s private", h.dir)
	}
	h.shared = true
	return nil
}

// isMountPoint reports whether dir is the root of a mount: statx(2), STATX_ATTR_MOUNT_ROOT.
func isMountPoint(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BASIC_STATS, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not fit for anything else afterwards
		done <- f()
	}()
	return <-done
}

func inNetns(ns *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return errs.Wrap(err, "enter network namespace %s", ns.Name())
		}
		return f()
	})
}

// hasNetns reports whether a namespace is bound to the container's file: nsfs(5), NSFS_MAGIC.
func (h *host) hasNetns(id brig.ID) bool {
	var st unix.Statfs_t
	return unix.Statfs(h.netnsPath(id), &st) == nil && st.Type == unix.NSFS_MAGIC
}

// release removes the container's namespace; its links go with it when the last process in it has ended.
func (h *host) release(id brig.ID) error { return h.removeNetns(h.netnsPath(id)) }

func (h *host) removeNetns(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return errs.Wrap(err, "unmount network namespace %s", path)
	}
	fault.Point("netns.unbound")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap(err, "remove network namespace %s", path)
	}
	return nil
}
