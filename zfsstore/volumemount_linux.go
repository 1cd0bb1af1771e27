package zfsstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// A mountWord is one of mount(8)'s file system independent options: it sets flags of mount(2), or takes them away.
type mountWord struct {
	flags uintptr
	off   bool
}

var mountWords = map[string]mountWord{
	"defaults": {}, "rw": {unix.MS_RDONLY, true}, "ro": {unix.MS_RDONLY, false}, "suid": {unix.MS_NOSUID, true}, "nosuid": {unix.MS_NOSUID, false},
	"dev": {unix.MS_NODEV, true}, "nodev": {unix.MS_NODEV, false}, "exec": {unix.MS_NOEXEC, true}, "noexec": {unix.MS_NOEXEC, false},
	"sync": {unix.MS_SYNCHRONOUS, false}, "async": {unix.MS_SYNCHRONOUS, true}, "dirsync": {unix.MS_DIRSYNC, false},
	"mand": {unix.MS_MANDLOCK, false}, "nomand": {unix.MS_MANDLOCK, true}, "atime": {unix.MS_NOATIME, true}, "noatime": {unix.MS_NOATIME, false},
	"diratime": {unix.MS_NODIRATIME, true}, "nodiratime": {unix.MS_NODIRATIME, false}, "relatime": {unix.MS_RELATIME, false},
	"norelatime": {unix.MS_RELATIME, true}, "strictatime": {unix.MS_STRICTATIME, false}, "nostrictatime": {unix.MS_STRICTATIME, true},
	"bind": {unix.MS_BIND, false}, "rbind": {unix.MS_BIND | unix.MS_REC, false},
}

var propagationWords = map[string]uintptr{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC, "shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC, "unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

// mountArgs reads a list of mount options: flags and propagation are mount(2)'s, all that it doesn't know is data for the file system.
func mountArgs(options string) (flags uintptr, propagation []uintptr, data string) {
	var rest []string
	for word := range strings.SplitSeq(options, ",") {
		if p, ok := propagationWords[word]; ok {
			propagation = append(propagation, p)
		} else if w, ok := mountWords[word]; ok && w.off {
			flags &^= w.flags
		} else if ok {
			flags |= w.flags
		} else if word != "" {
			rest = append(rest, word)
		}
	}
	return flags, propagation, strings.Join(rest, ",")
}

// mountVolume mounts m on dir. A bind mount takes its other flags in a second step, as mount(2) has it.
func mountVolume(ctx context.Context, dir string, m brig.VolumeMount) error {
	flags, propagation, data := mountArgs(m.Options)
	data, err := numericAddress(ctx, m.Type, data)
	if err != nil {
		return err
	}
	if err := unix.Mount(m.Device, dir, m.Type, flags, data); err != nil {
		if errors.Is(err, unix.ENODEV) {
			err = fmt.Errorf("%w: this kernel has no file system of type %q", err, m.Type)
		}
		return fmt.Errorf("failed to mount local volume: mount %s:%s, flags: %#x, data: %s: %w", m.Device, dir, flags, data, err)
	}
	const set = unix.MS_BIND | unix.MS_REC
	if flags&unix.MS_BIND != 0 && flags&^set != 0 {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags&^unix.MS_REC, ""); err != nil {
			return errors.Join(fmt.Errorf("failed to mount local volume: remount %s, flags: %#x: %w", dir, flags, err), forceUnmount(dir))
		}
	}
	for _, p := range propagation {
		if err := unix.Mount("", dir, "", p, ""); err != nil {
			return errors.Join(fmt.Errorf("failed to mount local volume: change the propagation of %s: %w", dir, err), forceUnmount(dir))
		}
	}
	return nil
}

// bindVolume mounts what from has open.
func bindVolume(ctx context.Context, dir string, from brig.OpenDir) error {
	return errs.As(errs.Invalid, mountVolume(ctx, dir, brig.VolumeMount{Type: "none", Device: fmt.Sprintf("/proc/self/fd/%d", from.Fd()), Options: "rbind,rprivate"}))
}

// numericAddress puts an address in place of the name in addr=, which mount(8)'s helpers would do: these kernel clients take no names.
func numericAddress(ctx context.Context, fstype, data string) (string, error) {
	if fstype != "cifs" && !strings.HasPrefix(fstype, "nfs") {
		return data, nil
	}
	words := strings.Split(data, ",")
	for i, w := range words {
		name, ok := strings.CutPrefix(w, "addr=")
		if !ok || net.ParseIP(name) != nil {
			continue
		}
		ips, err := net.DefaultResolver.LookupIPAddr(ctx, name)
		if err != nil || len(ips) == 0 {
			return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		words[i] = "addr=" + ips[0].String()
	}
	return strings.Join(words, ","), nil
}
