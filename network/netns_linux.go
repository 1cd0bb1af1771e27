package network

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/nsfile"
)

// makeNetns makes a namespace bound to the container's file and returns it open.
func (h *host) makeNetns(id brig.ID) (*os.File, error) {
	path, err := h.netnsFile(id)
	if err != nil {
		return nil, err
	}
	fault.Point("netns.file")
	err = nsfile.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return errs.Wrap(err, "make a network namespace")
		}
		// No IPv6 on interfaces to come, unless their network has it; lo keeps ::1, as Docker has it.
		if err := sysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nsfile.Bind(nsfile.Mine("net"), path)
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
	return errs.Wrap(nsfile.Bind(h.netnsOf(pid).Path, path), "network namespace of process %d", pid)
}

// netnsFile makes the file that the container's namespace is to be bound to.
func (h *host) netnsFile(id brig.ID) (path string, err error) {
	if !h.shared {
		if err := nsfile.Private(h.dir); err != nil {
			return "", err
		}
		h.shared = true
	}
	path = h.netnsPath(id)
	return path, nsfile.Touch(path)
}

func inNetns(ns *os.File, f func() error) error {
	return nsfile.OnThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return errs.Wrap(err, "enter network namespace %s", ns.Name())
		}
		return f()
	})
}

// hasNetns reports whether a namespace is bound to the container's file.
func (h *host) hasNetns(id brig.ID) bool { return nsfile.Bound(h.netnsPath(id)) }

// release removes the container's namespace; its links go with it when the last process in it has ended.
func (h *host) release(id brig.ID) error { return h.removeNetns(h.netnsPath(id)) }

func (h *host) removeNetns(path string) error {
	if err := nsfile.Unbind(path); err != nil {
		return err
	}
	fault.Point("netns.unbound")
	return nsfile.Remove(path)
}
