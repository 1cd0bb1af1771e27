package jailer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/brigd/brig/jailer/shim"
	"golang.org/x/sys/unix"
)

// TestNoRoom fills a small file system: what an OCI runtime says of a failure there is completed, and elsewhere it isn't.
func TestNoRoom(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	said := &shimFailure{shim.FailRuntime, `{"level":"error","msg":"write to seccomp fd"}`}
	if got := noRoom(dir, said); got != error(said) {
		t.Errorf("with room: %v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 8<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if got := startError("create", "true", noRoom(dir, said)).Error(); got != "failed to create shim task: OCI runtime create failed: unable to start container process: write to seccomp fd: no space left on device: unknown" {
		t.Errorf("without room: %s", got)
	}
	other := errors.New("other")
	if got := noRoom(dir, other); got != other {
		t.Errorf("not the runtime's: %v", got)
	}
}
