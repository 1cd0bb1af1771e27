package blobs

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/brigd/brig/internal/brig"
)

// Adopt makes a file the blob d. The caller has verified its bytes, has let go of it for writing, and may remove it afterwards. Where the file lies on
// the store's own file system it is linked, else copied. A blob that is there stays as it is.
// An adopted blob is durable only once the caller has synced the file system (Dir).
func (s *Store) Adopt(ctx context.Context, d brig.Digest, path string) error {
	to, err := s.path(d)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err = os.Link(path, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = s.Put(ctx, f, d, -1)
	return err
}
