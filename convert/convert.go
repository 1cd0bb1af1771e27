// Package convert turns Docker and OCI documents, layers and archives into App Container Images and back.
//
// Docker's config is the authority; the appc image manifest is its projection, with the names, labels and annotations that
// docker2aci 0.17.2 gives an image that it fetches from a registry and squashes. Where docker2aci is wrong or gives up,
// integration/docker2aci/README.md says what happens here instead, and the test beside it proves both.
//
// The package does no I/O but through readers and writers that it is given, a spool directory for archives that arrive as a stream,
// and, for speed, igzip as a subprocess.
package convert

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/appc/spec/schema/types"
)

// A Converter has the package's functions as methods, for those who declare them as interfaces. It has no state that changes.
type Converter struct {
	igzip, xz string // paths; "" not installed
	maxBytes  int64  // of an uncompressed archive; 0: maxACIBytes
}

// New returns a Converter that uses igzip and xz if they are installed.
func New() *Converter {
	extendOnce.Do(extendOSArch)
	return &Converter{igzip: find("igzip"), xz: find("xz")}
}

// find is where in PATH a program is, "" if nowhere.
func find(program string) string {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, program)
		if st, err := os.Stat(path); filepath.IsAbs(path) && err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// extendOnce guards appc/spec's table, the one thing of another package that is changed here, and only ever added to.
var extendOnce sync.Once

// extendOSArch adds what the specification's table of 2017 lacks to the validator: schema/types refuses a manifest that names them otherwise.
func extendOSArch() {
	for os, archs := range map[string][]string{"freebsd": {"aarch64", "riscv64"}, "linux": {"riscv64", "loongarch64"}} {
		types.ValidOSArch[os] = append(types.ValidOSArch[os], archs...)
	}
}
