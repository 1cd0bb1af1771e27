package erase

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/nmount"
)

// uncover unmounts all on and beneath dir, last first. FreeBSD has no mount namespaces: what a jail's bundle mounts is there for everybody, a folder of
// the host's too that somebody bound into a container.
func uncover(dir string) error {
	points, err := nmount.Points()
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
