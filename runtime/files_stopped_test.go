package runtime

import (
	"archive/tar"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// TestFilesOfStopped reads what the engine mounted over /etc/hosts after the container's end.
func TestFilesOfStopped(t *testing.T) {
	w := newWorld(t)
	w.setup = func(root string) { os.MkdirAll(root+"/etc", 0o755) }
	b := w.boot(0)
	b.run(t, "one", spec("sleep"))
	none := 0
	if err := b.Stop(t.Context(), "one", brig.StopOptions{Timeout: &none}); err != nil {
		t.Fatal(err)
	}
	r, _, err := b.GetArchive(t.Context(), "one", "/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tr := tar.NewReader(r)
	if h, err := tr.Next(); err != nil || h.Name != "hosts" {
		t.Fatalf("got %+v, %v", h, err)
	}
	if text, err := io.ReadAll(tr); err != nil || !strings.Contains(string(text), "localhost") {
		t.Errorf("/etc/hosts: %q, %v", text, err)
	}
}
