// Package man holds the manual pages; its test has mandoc(1) look at them. That they name all options, commands and keys is tested where those are.
package man

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestPagesAreGoodMdoc(t *testing.T) {
	pages, err := filepath.Glob("*.[1-9]")
	if err != nil || len(pages) < 3 {
		t.Fatalf("pages %q, %v", pages, err)
	}
	for _, page := range pages {
		out, err := exec.Command("mandoc", "-Tlint", "-Wstyle", page).CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Fatalf("mandoc, which make deps installs: %v", err)
		}
		for line := range strings.Lines(string(out)) {
			// What other pages this host has is no matter of ours.
			if !strings.Contains(line, "referenced manual not found") && !strings.Contains(line, "outdated mandoc.db") {
				t.Error(strings.TrimSpace(line))
			}
		}
	}
}
