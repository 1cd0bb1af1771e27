package compose

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestProjects plays every script of testdata, and those that say so with docker-compose 1.29 too.
func TestProjects(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*/script")
	if err != nil || len(scripts) < 25 {
		t.Fatalf("found %d scripts in testdata (%v), want 25 at least", len(scripts), err)
	}
	for _, file := range scripts {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Dir(file)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			if why, ours := strings.CutPrefix(string(text), "#brig: "); ours && !bed.server.Owned {
				why, _, _ = strings.Cut(why, "\n")
				t.Skip(why)
			}
			first, _, _ := strings.Cut(string(text), "\n")
			if why := leftOut([]string{first}); why != "" {
				t.Skip(why)
			}
			t.Parallel()
			play(t, folder, false)
			if strings.HasPrefix(string(text), "#v1") {
				t.Run("v1", func(t *testing.T) { play(t, folder, true) })
			}
		})
	}
}
