package zfsstore

import (
	"archive/tar"
	"io"
	"testing"

	"github.com/brigd/brig/internal/tarfs"
)

const hasOverlay = false

func setLegacy(*Store) {}

// capabilityOf is a file's attribute security.capability, which FreeBSD doesn't know by that name: what it has in an archive.
func capabilityOf(t testing.TB, root, name string) string {
	t.Helper()
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		w.CloseWithError(tarfs.Pack(t.Context(), w, root, tarfs.PackOptions{Sub: name, Name: name}))
	}()
	h, err := tar.NewReader(r).Next()
	if err != nil {
		t.Fatal(err)
	}
	return h.PAXRecords["SCHILY.xattr.security.capability"]
}

func staleMount(testing.TB, string) {}

// forceBreaks says that an unmount by force takes files from who has them open; they are closed for the file system.
const forceBreaks = true
