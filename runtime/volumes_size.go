package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/brigd/brig/internal/errs"
)

// VolumeSize adds up the files of a volume, in bytes as stat(2) has them: a file with several links once, directories not at all. It looks at
// every file. What goes away meanwhile is passed over. Volumes that show what is mounted from elsewhere have none.
func (c *Containers) VolumeSize(ctx context.Context, name string) (int64, error) {
	v, err := c.VolumeGet(ctx, name)
	if err != nil {
		return 0, err
	}
	if _, foreign := v.Mount(); foreign {
		return 0, nil // not ours
	}
	size, err := treeSize(ctx, v.Mountpoint)
	return size, errs.Wrap(err, "size of volume %s", name)
}

// treeSize stays beneath dir: a container may change the tree meanwhile.
func treeSize(ctx context.Context, dir string) (size int64, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	err = fs.WalkDir(root.FS(), ".", func(_ string, e fs.DirEntry, err error) error {
		if cerr := ctx.Err(); cerr != nil {
			return cerr
		}
		if errors.Is(err, fs.ErrNotExist) || (err == nil && e.IsDir()) {
			return nil
		}
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			key := inode{uint64(st.Dev), uint64(st.Ino)}
			if seen[key] {
				return nil
			}
			seen[key] = true
		}
		size += fi.Size()
		return nil
	})
	return size, err
}
