package zfsstore

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// A jail's mounts lie over the container's files for everybody. If they are still there when the container goes, what is in them stays.
func TestRemovalSparesWhatIsMounted(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		outside := t.TempDir()
		kept := filepath.Join(outside, "kept")
		b.check(os.WriteFile(kept, []byte("x"), 0o600))
		over := func(at string) {
			b.check(os.MkdirAll(at, 0o755))
			if out, err := exec.Command("mount", "-t", "nullfs", outside, at).CombinedOutput(); err != nil {
				t.Fatalf("mount: %v: %s", err, out)
			}
		}
		chain := b.add("", "d etc")
		removed, p := b.run(chain)
		over(p + "/etc")
		b.check(b.Remove(t.Context(), removed))
		_, p = b.run(chain)
		over(p + "/etc")
		b.check(b.Sweep(t.Context(), brig.Live{}))
		if _, err := os.Stat(kept); err != nil {
			t.Fatal("a file beneath a mount was deleted:", err)
		}
	})
}
