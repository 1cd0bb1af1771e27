package zfsstore

import (
	"context"
	"os"

	"github.com/brigd/brig/internal/errs"
)

func openOverlay(context.Context, Config) (driver, error) {
	return nil, errs.New(errs.NotImplemented, "the overlay storage driver is Linux's; use zfs or copy")
}

// isOpaque: only overlayfs makes such directories.
func isOpaque(*os.Root, string) (bool, error) { return false, nil }
