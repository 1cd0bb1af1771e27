package erase

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What is mounted beneath, one mount in another, stays as it is.
func TestAllSparesWhatIsMounted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounts need root")
	}
	outside, top := t.TempDir(), filepath.Join(t.TempDir(), "top")
	for _, dir := range []string{filepath.Join(outside, "sub"), filepath.Join(top, "a"), filepath.Join(top, "b")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	kept := filepath.Join(outside, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"a", "a/sub", "b"} {
		if out, err := exec.Command("mount", "-t", "nullfs", outside, filepath.Join(top, at)).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v: %s", err, out)
		}
	}
	if err := All(top); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Fatal("what was mounted has been removed:", err)
	}
	if _, err := os.Stat(top); err == nil {
		t.Error("the directory is still there")
	}
	if err := All(top); err != nil {
		t.Error("again:", err)
	}
}
