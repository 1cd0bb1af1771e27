package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// brig runs the brig command on a server.
func brigOn(t *testing.T, host string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.CommandContext(bed.ctx, filepath.Join(bed.bin, "brig"), append([]string{"-H", host}, args...)...)
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// healthy has brig doctor look at all of it.
func healthy(t *testing.T, host string) {
	t.Helper()
	eventually(t, "a healthy root has no finding", func() (bool, string) {
		out, code := brigOn(t, host, "doctor", "--deep")
		return code == 0 && strings.Contains(out, "all is well"), out
	})
}

func TestGarbageAndDoctor(t *testing.T) {
	s, _ := daemon(t)
	look := func(wantCode int, want string, args ...string) {
		t.Helper()
		if out, code := brigOn(t, s.Host, args...); code != wantCode || !strings.Contains(out, want) {
			t.Errorf("brig %v: exit code %d\n%s\nwant %d and %q", args, code, out, wantCode, want)
		}
	}
	healthy(t, s.Host)
	if err := os.WriteFile(filepath.Join(s.Root, "blobs", "sha256", strings.Repeat("ab", 32)), []byte("1234567"), 0o600); err != nil {
		t.Fatal(err)
	}
	look(1, "--fix would mend it", "doctor")
	look(0, "would remove 0 layers (0B, 0 bytes), 1 blobs (7B, 7 bytes)", "gc", "--dry-run")
	look(0, "removed 0 layers (0B, 0 bytes), 1 blobs (7B, 7 bytes)", "gc")
	look(0, "all is well", "doctor")
	look(1, "a brigd uses", "doctor", "--root", s.Root)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	look(1, "No brigd runs there", "doctor")
	look(0, "all is well", "doctor", "--root", s.Root)
	db := filepath.Join(s.Root, "brig.db")
	whole, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(db, whole[:2*os.Getpagesize()], 0o600) // its two meta pages, and nothing that they lead to
	look(1, "the file is damaged", "doctor", "--root", s.Root)
	os.WriteFile(db, whole, 0o600)
	start(t, s)
}
