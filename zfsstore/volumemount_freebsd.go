package zfsstore

import (
	"context"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// mountVolume is not there yet: the options of a volume are Linux's.
func mountVolume(_ context.Context, _ string, m brig.VolumeMount) error {
	return errs.New(errs.NotImplemented, "brig can't mount volumes of type %q on this system", m.Type)
}
