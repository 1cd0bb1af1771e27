package tarfs

import (
	"testing"

	"golang.org/x/sys/unix"
)

// overlayfs: there is none, and no store extracts with Overlay. The marks that it writes for overlayfs are in Linux's namespace trusted, for
// which there is no room here, so that it fails. What the tests ask of it is left out.
const overlayfs = false

func needOverlayfs(t testing.TB) {
	t.Helper()
	t.Skip("Overlay is for overlayfs, which is Linux's")
}

// leftOut skips one of the hostile archives.
func leftOut(t testing.TB, name string) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(t.TempDir(), &st); err != nil {
		t.Fatal(err)
	}
	if name == "attribute of 100 KiB" && unix.ByteSliceToString(st.Fstypename[:]) == "zfs" {
		t.Skip("UFS keeps 64 KiB in an attribute, as Linux does; ZFS on FreeBSD has no such bound and keeps all of it")
	}
}

func mountOverlay(t *testing.T, _, _, _ string) {
	t.Helper()
	needOverlayfs(t)
}

// moreBlocks is how much more a copy of a file with holes may take than the file, in 512 bytes: a block of UFS, which a file that first
// got its size and then its last bytes takes besides.
const moreBlocks = 64

// linkMode is the mode of symbolic links: what the umask leaves of 777. The kernel heeds it no more than Linux does.
func linkMode() uint32 {
	mask := unix.Umask(0)
	unix.Umask(mask)
	return 0o777 &^ uint32(mask)
}

// nodeOf is a file or directory whose attributes a test reads or sets; extattr(2) needs it to be open.
func nodeOf(t testing.TB, path string) node {
	t.Helper()
	fd, err := openat(unix.AT_FDCWD, path, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return node{fd: fd}
}
