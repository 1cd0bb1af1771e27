package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
)

// maxDockerfile bounds a Dockerfile and an ignore file, in bytes.
const maxDockerfile = 16 << 20

// resolve finds what p names in the tree at root, as a process would whose root it is: no symbolic link leads out of it. The result is relative to root,
// has no symbolic link in it, "." is the root; what doesn't exist stays as it is.
func resolve(root, p string) (string, error) {
	full, err := securejoin.SecureJoin(root, p)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(root, full)
	if err != nil {
		return "", err
	}
	return filepath.ToSlash(rel), nil
}

// leaves says that a path climbs out of what it is relative to by its own "..".
func leaves(p string) bool {
	p = path.Clean(strings.TrimPrefix(p, "/"))
	return p == ".." || strings.HasPrefix(p, "../")
}

// stat is os.Lstat of what resolve has found.
func stat(root, rel string) (fs.FileInfo, error) {
	fi, err := os.Lstat(filepath.Join(root, filepath.FromSlash(rel)))
	if errors.Is(err, unix.ENOTDIR) {
		err = fs.ErrNotExist
	}
	return fi, err
}

// notThere is dockerd's text of a path that names nothing.
func notThere(p string) error {
	return errs.New(errs.NotFound, "stat %s: file does not exist", p)
}

// readFile reads a regular file in the tree at root, at most max bytes.
func readFile(root, p string, max int64) ([]byte, error) {
	rel, err := resolve(root, p)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(filepath.Join(root, filepath.FromSlash(rel)), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR {
		err = unix.ENOENT
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errs.New(errs.Invalid, "%s is not a regular file", p)
	}
	if fi.Size() > max {
		return nil, errs.New(errs.Invalid, "%s has %d bytes, more than %d", p, fi.Size(), max)
	}
	return io.ReadAll(io.LimitReader(f, max))
}

// readDockerfile reads the Dockerfile that a request names. name is the one that was found.
func readDockerfile(root, asked string) (data []byte, name string, err error) {
	names := []string{asked}
	if asked == "" {
		asked, names = "Dockerfile", []string{"Dockerfile", "dockerfile"}
	}
	if leaves(asked) {
		return nil, "", errs.New(errs.Invalid, "forbidden path outside the build context: %s ()", asked)
	}
	for _, n := range names {
		data, err = readFile(root, n, maxDockerfile)
		if !errors.Is(err, fs.ErrNotExist) {
			return data, n, err
		}
	}
	return nil, "", errs.New(errs.Invalid, "Cannot locate specified Dockerfile: %s", asked)
}

// An ignorer knows which paths of a tree its patterns leave out.
type ignorer struct{ kept map[string]bool }

// readIgnore reads the ignore file of a build: that beside the Dockerfile (NAME.dockerignore), else the context's. nil: nothing is left out.
func readIgnore(root, dockerfile string) (*ignorer, error) {
	for _, n := range []string{dockerfile + ".dockerignore", ".dockerignore"} {
		data, err := readFile(root, n, maxDockerfile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errs.Wrap(err, "read %s", n)
		}
		patterns, err := ignorefile.ReadAll(strings.NewReader(string(data)))
		if err != nil {
			return nil, errs.New(errs.Invalid, "read %s: %w", n, err)
		}
		i, err := ignore(root, ".", patterns)
		return i, errs.Wrap(err, "%s", n)
	}
	return nil, nil
}

// ignore walks a directory once, so that what is left out is known for certain: a directory that is left out stays if a pattern with ! brings back something
// beneath it. rel is the directory in the tree, which patterns are relative to, and kept's paths are relative to as well.
func ignore(root, rel string, patterns []string) (*ignorer, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	pm, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, errs.As(errs.Invalid, err)
	}
	i := &ignorer{kept: map[string]bool{".": true}}
	top := filepath.Join(root, filepath.FromSlash(rel))
	parents := map[string]patternmatcher.MatchInfo{}
	err = filepath.WalkDir(top, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p, err := filepath.Rel(top, at)
		if err != nil || p == "." {
			return err
		}
		out, info, err := pm.MatchesUsingParentResults(p, parents[filepath.Dir(p)])
		if err != nil {
			return errs.As(errs.Invalid, err)
		}
		if d.IsDir() {
			parents[p] = info
			if out && !pm.Exclusions() {
				return filepath.SkipDir
			}
		}
		for ; !out && !i.kept[p]; p = path.Dir(p) {
			i.kept[p] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("walk the build context: %w", err)
	}
	return i, nil
}

// out reports whether p, clean and without symbolic links, is left out.
func (i *ignorer) out(p string) bool { return i != nil && !i.kept[p] }
