// Package arch holds the table of allowed imports; a wrong arrow between packages fails its test.
package arch

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/brigd/brig"

// row gives each package's height. An import points to a lower row, never sideways or up; docs/design.md says why.
// internal/errs and internal/undo lie below internal/brig, which uses errs.
var row = map[string]int{
	"internal/errs": 0, "internal/undo": 0, "internal/fault": 0, "internal/arch": 0, "man": 0, "internal/jsondoc": 1,
	"internal/brig": 1,
	"internal/host": 2, "internal/tarfs": 3, "internal/logfile": 2, "internal/blobs": 2, "internal/records": 2, "internal/config": 3, "internal/logopts": 2,
	"internal/trust": 2, "internal/discovery": 2, "internal/changes": 2, "internal/journal": 2, "internal/metrics": 2, "internal/resolv": 2, "internal/survivor": 2,
	"internal/elfcheck": 2, "internal/podspec": 2, "internal/identity": 3, "internal/erase": 2,
	"internal/gitsource": 3, "internal/buildcontext": 4, "internal/kmod": 3, "internal/hostcheck": 4,
	"internal/nsfile": 2, "internal/nmount": 1,
	"jailer/ocispec": 2, "jailer/jailctl": 2, "jailer/jailspec": 3,
	"dockerapi": 4, "runtime": 4, "convert": 4, "jailer": 4, "zfsstore": 4, "network": 4, "network/keeper": 4, "metadata": 4, "build": 4, "registry": 4,
	"cmd/brigd": 5, "cmd/brig": 5, "cmd/brig-shim": 5, "cmd/brig-net": 5, "cmd/brig-jail": 5, "cmd/brig-mds": 5,
}

func TestImportsPointDown(t *testing.T) {
	for _, goos := range []string{"linux", "freebsd"} {
		cmd := exec.Command("go", "list", "-f", "{{.ImportPath}}: {{join .Imports \" \"}} {{join .TestImports \" \"}} {{join .XTestImports \" \"}}", "./...")
		cmd.Dir, cmd.Env = "../..", append(cmd.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			from, imports, _ := strings.Cut(strings.TrimSpace(line), ": ")
			from = strings.TrimPrefix(from, module+"/")
			for _, to := range strings.Fields(imports) {
				if to, ours := strings.CutPrefix(to, module+"/"); ours {
					check(t, goos, from, to)
				}
			}
		}
	}
}

func check(t *testing.T, goos, from, to string) {
	t.Helper()
	if strings.HasPrefix(from, "integration") {
		if !strings.HasPrefix(to, "integration") {
			t.Errorf("%s imports %s: integration/ is a black box and imports none of ours", from, to)
		}
		return
	}
	f, ok := lookup(from)
	if !ok {
		t.Errorf("%s has no row: add it to the table", from)
		return
	}
	g, ok := lookup(to)
	switch {
	case !ok:
		t.Errorf("%s has no row: add it to the table", to)
	case sub(from, to) || sub(to, from):
	case g >= f:
		t.Errorf("%s: %s (row %d) imports %s (row %d): imports point down", goos, from, f, to, g)
	}
}

// lookup gives a package without a row of its own that of its nearest parent.
func lookup(pkg string) (int, bool) {
	for p := pkg; p != "."; {
		if r, ok := row[p]; ok {
			return r, true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			break
		}
		p = p[:i]
	}
	return 0, false
}

// sub reports whether a lies inside b: a package and its own parts may know each other.
func sub(a, b string) bool { return strings.HasPrefix(a, b+"/") }
