package zfsstore

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSpread: where the file system knows the hint, a store's directories carry it, and what is made in them does not.
func TestSpread(t *testing.T) {
	root := t.TempDir()
	s, err := Open(t.Context(), Config{Root: root, Driver: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	flags := func(rel string) uint32 {
		t.Helper()
		f, err := os.Open(filepath.Join(root, rel))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		n, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			t.Skipf("no flags on this file system: %v", err)
		}
		return n
	}
	if backing(root) != "extfs" {
		t.Skip("not on ext4")
	}
	for _, d := range []string{"w", "v"} {
		os.Mkdir(filepath.Join(root, d, "x"), 0o700)
		if flags(d)&topDir == 0 || flags(d+"/x")&topDir != 0 {
			t.Errorf("%s has the flags %#x, what is in it %#x", d, flags(d), flags(d+"/x"))
		}
	}
}
