//go:build linux || freebsd

package jailer

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/brigd/brig/internal/brig"
)

// eachStray calls drop for each pod's directory in podDir that live doesn't name.
func eachStray(podDir string, live []brig.ID, drop func(dir string) error) error {
	entries, err := os.ReadDir(podDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	failed := []error{err}
	for _, e := range entries {
		if !slices.Contains(live, brig.ID(e.Name())) {
			failed = append(failed, drop(filepath.Join(podDir, e.Name())))
		}
	}
	return errors.Join(failed...)
}
