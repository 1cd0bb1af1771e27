package tarfs

import (
	"testing"

	"golang.org/x/sys/unix"
)

// mountOverlay shows upper over lower at dir, read-only, until the test ends.
func mountOverlay(t *testing.T, dir, lower, upper string) {
	t.Helper()
	if err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, "lowerdir="+upper+":"+lower); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}
