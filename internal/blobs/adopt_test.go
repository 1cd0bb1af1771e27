package blobs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// TestAdopt takes files from the store's own file system and from another, twice, and lets them go afterwards.
func TestAdopt(t *testing.T) {
	s, dir := open(t)
	elsewhere, err := os.MkdirTemp("/dev/shm", "brig-blobs-") // of the systems that brig is for, those without it copy nothing here
	if err != nil {
		elsewhere = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(elsewhere) })
	for body, in := range map[string]string{"near": dir, "far": elsewhere} {
		d, path := brig.DigestOf([]byte(body)), filepath.Join(in, "spooled")
		for range 2 {
			if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.Adopt(t.Context(), d, path); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
			if b, err := s.Get(d); err != nil || string(b) != body {
				t.Errorf("%s: %q, %v", body, b, err)
			}
		}
	}
	leftovers(t, s)
}

func TestAdoptRefuses(t *testing.T) {
	s, dir := open(t)
	path := filepath.Join(dir, "spooled")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []brig.Digest{"", "sha256:../../etc", "md5:00"} {
		if err := s.Adopt(t.Context(), d, path); err == nil {
			t.Errorf("%q was adopted", d)
		}
	}
	if err := s.Adopt(t.Context(), brig.DigestOf([]byte("x")), path+".none"); err == nil {
		t.Error("a file that is not there was adopted")
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("stored %v, %v", list, err)
	}
}
