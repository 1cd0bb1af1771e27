package erase

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// uncover unmounts all on and beneath dir, last first. FreeBSD has no mount namespaces: what a jail's bundle mounts is there for everybody, a folder of
// the host's too that somebody bound into a container.
func uncover(dir string) error {
	points, err := mountpoints()
	if err != nil {
		return err
	}
	for _, p := range slices.Backward(points) {
		if p != dir && !strings.HasPrefix(p, dir+"/") {
			continue
		}
		if err := unix.Unmount(p, unix.MNT_FORCE); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "unmount", Path: p, Err: err}
		}
	}
	return nil
}

// mountpoints lists all of the host's, in the order of mounting.
func mountpoints() (out []string, err error) {
	for {
		n, err := unix.Getfsstat(nil, unix.MNT_NOWAIT)
		if err != nil {
			return nil, os.NewSyscallError("getfsstat", err)
		}
		list := make([]unix.Statfs_t, n+8)
		if n, err = unix.Getfsstat(list, unix.MNT_NOWAIT); err != nil {
			return nil, os.NewSyscallError("getfsstat", err)
		}
		if n == len(list) {
			continue // there may be more by now
		}
		for i := range list[:n] {
			out = append(out, unix.ByteSliceToString(list[i].Mntonname[:]))
		}
		return out, nil
	}
}
