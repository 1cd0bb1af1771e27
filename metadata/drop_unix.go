//go:build linux || freebsd

package metadata

import (
	"log/slog"
	"os"
	"syscall"

	"github.com/brigd/brig/internal/errs"
)

// priority is brig-mds's nice value.
const priority = -10

// drop gives up all rights, for ever: what is published becomes the root of all that this process can see, and its user one that owns
// nothing. A process that isn't root's has nothing to give up. What serves is never root.
func drop(o Options, log *slog.Logger) error {
	if os.Geteuid() != 0 {
		return nil
	}
	if o.UID <= 0 || o.GID <= 0 {
		return errs.New(errs.Forbidden, "brig-mds does not serve as root: it needs a user and a group of its own")
	}
	// Apps are given 100 ms for an answer, also where a host has more to do than it can. The group is this process alone; it takes all its threads.
	if err := syscall.Setpriority(syscall.PRIO_PGRP, 0, priority); err != nil {
		log.Warn("answers may be late on a busy host", "err", errs.Wrap(err, "set the priority"))
	}
	if err := syscall.Chroot(o.Published); err != nil {
		log.Warn("the file system stays in sight, as far as the user may read it", "err", errs.Wrap(err, "chroot to %s", o.Published))
	}
	if err := syscall.Chdir("/"); err != nil {
		return errs.Wrap(err, "leave the directory")
	}
	if err := syscall.Setgroups([]int{o.GID}); err != nil {
		return errs.Wrap(err, "leave all groups")
	}
	if err := syscall.Setgid(o.GID); err != nil {
		return errs.Wrap(err, "become group %d", o.GID)
	}
	if err := syscall.Setuid(o.UID); err != nil {
		return errs.Wrap(err, "become user %d", o.UID)
	}
	if syscall.Getuid() != o.UID || syscall.Geteuid() != o.UID || syscall.Getgid() != o.GID || syscall.Getegid() != o.GID || syscall.Setuid(0) == nil {
		return errs.New(errs.Forbidden, "brig-mds could not give up root's rights")
	}
	return nil
}
