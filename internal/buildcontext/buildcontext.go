// Package buildcontext brings what builds may copy from, each time into a directory of its own: of archives that clients send, and of what
// URLs and Git repositories have.
package buildcontext

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/erase"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/gitsource"
	"github.com/brigd/brig/internal/tarfs"
)

const (
	// maxTail is how many bytes may come after an archive's end, and are read away.
	maxTail = 64 << 20
	// maxSmall is how many bytes an archive has at most whose files are kept in memory.
	maxSmall = 4 << 20
	// maxDockerfile bounds in bytes a Dockerfile that comes alone.
	maxDockerfile = 16 << 20
	// dockerfileName is what a Dockerfile that comes alone is called.
	dockerfileName = "Dockerfile"
)

// Config is all that Contexts need.
type Config struct {
	Dir string // that the contexts are made in; made if missing
	// Memory is a directory in memory, made anew, where small contexts are made as long as there is room: making a file takes a disk's file system a
	// hundred times as long. "": there is none.
	Memory string
	// Decompress returns the plain bytes of an archive; what r gives decides. See convert.Converter.
	Decompress func(ctx context.Context, r io.Reader, mediaType string) (io.ReadCloser, error)
	// Download opens what an http or https URL gives; size is in bytes, -1 if it isn't known. See registry.Registry.
	Download func(ctx context.Context, address string) (body io.ReadCloser, size int64, err error)
	Log      *slog.Logger
}

// Contexts makes contexts and removes them.
type Contexts struct {
	c     Config
	going sync.WaitGroup // contexts that are being removed
}

// Open makes c.Dir, and removes what an earlier process left there.
func Open(c Config) (*Contexts, error) {
	if err := erase.All(c.Dir); err != nil {
		return nil, errs.Wrap(err, "remove the contexts of earlier builds")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, errs.Wrap(err, "make the directory of build contexts")
	}
	if c.Memory != "" {
		err := erase.All(c.Memory)
		if err == nil {
			err = os.Mkdir(c.Memory, 0o700) // and nobody else's: everybody may write to where it is
		}
		if err != nil {
			c.Log.Warn("build contexts are not kept in memory", "dir", c.Memory, "err", err)
			c.Memory = ""
		}
	}
	return &Contexts{c: c}, nil
}

// Close waits until contexts that were given back are gone.
func (c *Contexts) Close() error {
	c.going.Wait()
	if c.c.Memory == "" {
		return nil
	}
	return os.Remove(c.c.Memory)
}

// make gives a fresh directory in top, and what removes it, which doesn't wait.
func (c *Contexts) make(top string) (dir string, remove func(), err error) {
	if dir, err = os.MkdirTemp(top, "c-"); err != nil {
		return "", nil, errs.Wrap(err, "make a directory for the build context")
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the mode of what COPY . copies
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return dir, sync.OnceFunc(func() {
		c.going.Go(func() {
			if err := erase.All(dir); err != nil {
				c.c.Log.Warn("a build context is left until the next start", "dir", dir, "err", err)
			}
		})
	}), nil
}

// Receive extracts an archive, compressed or not, as tarfs does; owners are left out: what a build copies belongs to root unless it says
// otherwise. It reads r to its end. The directory stays until remove is called. Invalid: it is no archive, or one that leaves its root.
func (c *Contexts) Receive(ctx context.Context, r io.Reader) (dir string, remove func(), err error) {
	plain, err := c.c.Decompress(ctx, r, "")
	if err != nil {
		return "", nil, errs.Wrap(err, "read the build context")
	}
	defer plain.Close()
	archive, dir, remove, err := c.small(ctx, plain)
	if err != nil {
		return "", nil, err
	}
	if dir == "" {
		if dir, remove, err = c.make(c.c.Dir); err != nil {
			return "", nil, err
		}
		err = extract(ctx, dir, archive)
	}
	if err == nil {
		_, err = io.CopyN(io.Discard, r, maxTail)
		if err = errs.Wrap(err, "read the build context to its end"); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil {
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}

// small extracts an archive into memory if it is small enough. Else dir is "", and rest is the archive from its beginning.
func (c *Contexts) small(ctx context.Context, plain io.Reader) (rest io.Reader, dir string, remove func(), err error) {
	if c.c.Memory == "" {
		return plain, "", nil, nil
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, plain, maxSmall); err != io.EOF {
		if err != nil {
			return nil, "", nil, errs.Wrap(err, "read the build context")
		}
		return io.MultiReader(&b, plain), "", nil, nil
	}
	if bytes.Contains(b.Bytes(), []byte("SCHILY.xattr.user.")) { // which tmpfs has had since Linux 6.6 only
		return &b, "", nil, nil
	}
	dir, remove, err = c.make(c.c.Memory)
	if err == nil {
		if err = extract(ctx, dir, bytes.NewReader(b.Bytes())); err == nil {
			return nil, dir, remove, nil
		}
		remove()
	}
	if ctx.Err() != nil {
		return nil, "", nil, err
	}
	return &b, "", nil, nil // on the disk it works, or fails again
}

func extract(ctx context.Context, dir string, plain io.Reader) error {
	if _, err := tarfs.Extract(ctx, dir, plain, tarfs.Options{Owner: &tarfs.Owner{UID: -1, GID: -1}}); err != nil {
		return errs.Wrap(err, "extract the build context")
	}
	if _, err := io.CopyN(io.Discard, plain, maxTail); err != nil && err != io.EOF { // the end of what is compressed
		return errs.Wrap(err, "read the build context to its end")
	}
	return nil
}

// Fetch gets a context from a Git repository, or from an http or https URL: of an archive, or of a Dockerfile alone, whose name it
// returns then. progress is told how a download goes. dir and remove are as Receive's. Invalid: remote is none of these.
func (c *Contexts) Fetch(ctx context.Context, remote string, progress func(brig.Progress)) (dir, dockerfile string, remove func(), err error) {
	if !gitsource.Is(remote) && !strings.HasPrefix(remote, "http://") && !strings.HasPrefix(remote, "https://") {
		return "", "", nil, errs.New(errs.Invalid, "remoteURL (%s) could not be recognized as URL", remote)
	}
	top, remove, err := c.make(c.c.Dir)
	if err != nil {
		return "", "", nil, err
	}
	if gitsource.Is(remote) {
		dir, err = clone(ctx, top, remote)
	} else {
		dir = top
		dockerfile, err = c.download(ctx, top, remote, progress)
	}
	if err != nil {
		remove()
		return "", "", nil, err
	}
	return dir, dockerfile, remove, nil
}

func clone(ctx context.Context, top, remote string) (string, error) {
	src, err := gitsource.Parse(remote)
	if err != nil {
		return "", err
	}
	dir, _, err := src.Fetch(ctx, top, true) // dockerd keeps .git
	return dir, err
}

// download extracts what remote gives, or takes it for a Dockerfile, and returns that file's name.
func (c *Contexts) download(ctx context.Context, dir, remote string, progress func(brig.Progress)) (dockerfile string, err error) {
	body, size, err := c.c.Download(ctx, remote)
	if err != nil {
		return "", errs.Wrap(err, "error downloading remote context %s", remote)
	}
	defer body.Close()
	m := &meter{r: body, name: remote, total: max(0, size), tell: progress}
	plain, err := c.c.Decompress(ctx, m, "")
	if err != nil {
		return "", errs.Wrap(err, "read the remote context %s", remote)
	}
	defer plain.Close()
	b := bufio.NewReader(plain)
	archive, err := isArchive(b)
	if err == nil && archive {
		return "", extract(ctx, dir, b)
	}
	if err == nil {
		err = writeDockerfile(filepath.Join(dir, dockerfileName), b)
	}
	return dockerfileName, errs.Wrap(err, "read the remote context %s", remote)
}

// isArchive looks whether b begins with the header of a tar archive, or is the end of an empty one.
func isArchive(b *bufio.Reader) (bool, error) {
	const block = 512
	head, err := b.Peek(block)
	if err == io.EOF {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = tar.NewReader(bytes.NewReader(head)).Next()
	return !errors.Is(err, tar.ErrHeader), nil
}

// writeDockerfile writes r, which must be text, to path.
func writeDockerfile(path string, r io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err != nil {
		return err
	}
	if len(text) > maxDockerfile {
		return errs.New(errs.Invalid, "a Dockerfile of more than %d bytes", maxDockerfile)
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return errs.New(errs.Invalid, "it is neither an archive nor a Dockerfile")
	}
	return os.WriteFile(path, text, 0o644)
}

// A meter tells how much of a download has come, at most once for each of its steps, and at the end.
type meter struct {
	r           io.Reader
	name        string
	done, total int64 // bytes; total 0: not known
	told        int64
	tell        func(brig.Progress)
}

// meterStep is how many bytes come between two reports.
const meterStep = 512 << 10

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.done += int64(n)
	if m.done-m.told >= meterStep || err == io.EOF && m.done != m.told {
		m.told = m.done
		m.tell(brig.Progress{ID: "Downloading context", Status: m.name, Current: m.done, Total: m.total})
	}
	return n, err
}
