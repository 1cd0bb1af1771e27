package zfsstore

import (
	"context"

	"github.com/brigd/brig/internal/host"
)

// platformProps: FreeBSD's defaults hold all that its jails can use.
var platformProps []string

// mountZFS mounts a dataset or snapshot whose mountpoint is legacy.
func mountZFS(ctx context.Context, name, dir string) error {
	_, err := host.Run(ctx, "mount", "-t", "zfs", name, dir)
	return err
}
