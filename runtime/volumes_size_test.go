package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestVolumeSize(t *testing.T) {
	b := newWorld(t).boot(0)
	v, err := b.VolumeCreate(t.Context(), brig.VolumeSpec{Name: "data"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(v.Mountpoint, "d/e"), 0o755); err != nil {
		t.Fatal(err)
	}
	if n, err := b.VolumeSize(t.Context(), "data"); n != 0 || err != nil {
		t.Errorf("only directories: %d, %v", n, err)
	}
	outside := filepath.Join(t.TempDir(), "big")
	for name, size := range map[string]int{filepath.Join(v.Mountpoint, "a"): 1000, filepath.Join(v.Mountpoint, "d/e/f"): 20, outside: 1 << 20} {
		if err := os.WriteFile(name, []byte(strings.Repeat("x", size)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(v.Mountpoint, "a"), filepath.Join(v.Mountpoint, "d/b")); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"l": "abc", "out": filepath.Dir(outside)} {
		if err := os.Symlink(to, filepath.Join(v.Mountpoint, name)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := b.VolumeSize(t.Context(), "data"); n != int64(1020+3+len(filepath.Dir(outside))) || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	_, err = b.VolumeSize(t.Context(), "nosuch")
	wantErr(t, "no volume", err, errs.NotFound, "no such volume")
}
