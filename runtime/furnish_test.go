package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

func TestFurnish(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	for range 2 { // each start does it
		if err := furnish(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, ".dockerenv")); err != nil {
		t.Error(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "etc")); err != nil {
		t.Fatal(err)
	}
	if err := furnish(dir); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Error("furnish follows /etc out of the root")
	}
	os.Remove(filepath.Join(dir, "etc"))
	os.Mkdir(filepath.Join(dir, "etc"), 0o755)
	os.Remove(filepath.Join(dir, ".dockerenv"))
	os.Symlink(filepath.Join(outside, "x"), filepath.Join(dir, ".dockerenv"))
	if err := furnish(dir); err != nil {
		t.Error(err)
	}
	if to, _ := os.Readlink(filepath.Join(dir, "etc/mtab")); to != "/proc/mounts" {
		t.Errorf("/etc/mtab leads to %q", to)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Error("furnish writes through a link")
	}
}

func TestHideFurniture(t *testing.T) {
	add := func(p string) brig.Change { return brig.Change{Path: p, Kind: brig.ChangeAdded} }
	mod := func(p string) brig.Change { return brig.Change{Path: p, Kind: brig.ChangeModified} }
	del := func(p string) brig.Change { return brig.Change{Path: p, Kind: brig.ChangeDeleted} }
	for _, c := range []struct {
		name     string
		in, want []brig.Change
	}{
		{"nothing but ours", []brig.Change{add("/.dockerenv"), add("/dev"), mod("/etc"), add("/etc/hosts"), add("/proc")}, nil},
		{"beside the user's", []brig.Change{mod("/etc"), add("/etc/hosts"), mod("/etc/passwd"), add("/x")}, []brig.Change{mod("/etc"), mod("/etc/passwd"), add("/x")}},
		{"the image's own directory changed", []brig.Change{mod("/etc")}, []brig.Change{mod("/etc")}},
		{"removed by the user", []brig.Change{mod("/etc"), del("/etc/hosts")}, []brig.Change{mod("/etc"), del("/etc/hosts")}},
		{"neighbour", []brig.Change{mod("/etc"), add("/etc/hosts"), add("/etc2")}, []brig.Change{add("/etc2")}},
	} {
		if got := hideFurniture(slices.Clone(c.in)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
