package zfsstore

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// platformProps let images and containers hold what they hold on other file systems: POSIX ACLs, and extended attributes at their usual
// price (zfsprops(7)).
var platformProps = []string{"-o", "acltype=posixacl", "-o", "xattr=sa"}

// mountZFS mounts a dataset or snapshot whose mountpoint is legacy. mount.zfs(8) would do no more than that, but tell the kernel where; it
// then could mount snapshots beneath .zfs, on the host, at the wish of whoever looks there from inside a container.
func mountZFS(ctx context.Context, name, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := unix.Mount(name, dir, "zfs", 0, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", name, dir, err)
	}
	return nil
}
