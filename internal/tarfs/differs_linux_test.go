package tarfs

import (
	"testing"

	"golang.org/x/sys/unix"
)

const overlayfs = true

func needOverlayfs(testing.TB) {}

// leftOut would skip one of the hostile archives.
func leftOut(testing.TB, string) {}

// mountOverlay shows upper over lower at dir, read-only, until the test ends.
func mountOverlay(t *testing.T, dir, lower, upper string) {
	t.Helper()
	if err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, "lowerdir="+upper+":"+lower); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// moreBlocks is how much more a copy of a file with holes may take than the file, in 512 bytes.
const moreBlocks = 16

// linkMode is the mode of symbolic links.
func linkMode() uint32 { return 0o777 }

// nodeOf is a file or directory whose attributes a test reads or sets.
func nodeOf(_ testing.TB, path string) node { return node{unix.AT_FDCWD, path, -1} }
