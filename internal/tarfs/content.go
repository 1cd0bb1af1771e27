package tarfs

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// newFile makes an empty file and returns its descriptor. Its mode is h's but for the set-id bits, as far as the umask lets it.
func (x *extractor) newFile(parent *dir, base string, h *tar.Header) (int, error) {
	fd := -1
	err := x.create(parent, base, false, func() (err error) {
		fd, err = createFile(parent.fd, base, h)
		return err
	})
	return fd, err
}

// createFile opens for reading too: what FreeBSD keeps of a file's capabilities goes with its content.
func createFile(dir int, base string, h *tar.Header) (int, error) {
	return openat(dir, base, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, uint32(h.Mode)&0o777)
}

func (x *extractor) file(ctx context.Context, parent *dir, base string, h *tar.Header, r io.Reader) error {
	at := join(parent.path, base)
	fd, err := x.newFile(parent, base, h)
	if err != nil {
		return err
	}
	x.note(at)
	x.stats.Bytes += h.Size
	if err = x.content(ctx, fd, at, h, r); err == nil {
		err = x.attrs(node{parent.fd, base, fd}, at, h)
	}
	if cerr := closeFile(fd); err == nil {
		err = x.fail("close", at, cerr)
	}
	return err
}

// wholeFile makes a file in a directory where nothing but a regular file can be in its way. It is safe for concurrent use.
func (x *extractor) wholeFile(parent *dir, base, at string, h *tar.Header, data []byte) error {
	fd, err := createFile(parent.fd, base, h)
	if err == unix.EEXIST {
		if err = retry(func() error { return unix.Unlinkat(parent.fd, base, 0) }); err == nil || err == unix.ENOENT {
			fd, err = createFile(parent.fd, base, h)
		}
	}
	if err != nil {
		return x.fail("create", at, err)
	}
	if err = writeAll(fd, data); err != nil {
		err = x.fail("write", at, err)
	} else {
		err = x.attrs(node{parent.fd, base, fd}, at, h)
	}
	if cerr := closeFile(fd); err == nil {
		err = x.fail("close", at, cerr)
	}
	return err
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (x *extractor) content(ctx context.Context, fd int, at string, h *tar.Header, r io.Reader) error {
	sparse, total := isSparse(h), int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, x.buf)
		total += int64(n)
		if n > 0 {
			if werr := write(fd, x.buf[:n], sparse); werr != nil {
				return x.fail("write", at, werr)
			}
		}
		if err == io.EOF || (err == io.ErrUnexpectedEOF && n < len(x.buf)) {
			break
		}
		if err != nil {
			return archiveError(err)
		}
	}
	if total != h.Size {
		return archiveError(io.ErrUnexpectedEOF)
	}
	if sparse {
		return x.fail("set size of", at, retry(func() error { return unix.Ftruncate(fd, h.Size) }))
	}
	return nil
}

// write appends p; zero blocks of a sparse file become holes.
func write(fd int, p []byte, sparse bool) error {
	if !sparse {
		return writeAll(fd, p)
	}
	const block = 4096
	var zero [block]byte
	for b := range slices.Chunk(p, block) {
		var err error
		if bytes.Equal(b, zero[:len(b)]) {
			_, err = unix.Seek(fd, int64(len(b)), io.SeekCurrent)
		} else {
			err = writeAll(fd, b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
