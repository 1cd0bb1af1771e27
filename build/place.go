package build

import (
	"archive/tar"
	"bufio"
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/tarfs"
)

// A place is a tree that files are copied from: the build context, another stage or image, or what ADD has fetched. Nobody changes it meanwhile.
type place struct {
	dir     string // on the host
	ignore  *ignorer
	context bool
	chain   brig.Digest // of a stage or image
}

// context is the build context.
func (r *run) context() *place { return &place{dir: r.req.Context, ignore: r.ignore, context: true} }

// other is the stage or the image that --from names.
func (s *stage) other(ctx context.Context, name string) (*place, error) {
	i, err := s.p.from(name, s.plan.index)
	if err != nil {
		return nil, err
	}
	var chain brig.Digest
	if i != noStage {
		from, err := s.result(ctx, i)
		if err != nil {
			return nil, err
		}
		chain = from.chain
	} else {
		b, err := s.s.Base(ctx, name, s.asked, s.req.Pull, s.req.Auths, func(p brig.Progress) { s.out.add(brig.BuildLine{Progress: &p}) })
		if err != nil {
			return nil, err
		}
		chain = b.Chain
	}
	if chain == "" {
		dir, err := os.MkdirTemp(s.temp, "empty-")
		return &place{dir: dir}, err
	}
	dir, err := s.s.View(ctx, chain)
	return &place{dir: dir, chain: chain}, err
}

// find resolves a path in the place to one without symbolic links. fs.ErrNotExist: there is nothing, or nothing that may be seen.
func (p *place) find(name string) (rel string, err error) {
	if leaves(name) {
		return "", errs.New(errs.Invalid, "forbidden path outside the build context: %s ()", name)
	}
	if rel, err = resolve(p.dir, name); err != nil {
		return "", errs.New(errs.Invalid, "forbidden path outside the build context: %s ()", name)
	}
	if p.ignore.out(rel) {
		return "", fs.ErrNotExist
	}
	_, err = stat(p.dir, rel)
	return rel, err
}

// skip tells what of the directory rel is left out: what the ignore file says, and what exclude does.
func (p *place) skip(rel string, exclude *ignorer) func(string) bool {
	if p.ignore == nil && exclude == nil {
		return nil
	}
	return func(beneath string) bool { return p.ignore.out(path.Join(rel, beneath)) || exclude.out(beneath) }
}

// streamed is how much of an archive goes from writer to reader at a time, in bytes: each time costs a change of goroutines.
const streamed = 256 << 10

// stream joins one who writes an archive with one who reads it. The reader's error comes first, unless it is the writer's.
func (p *place) stream(write func(io.Writer) error, read func(io.Reader) error) error {
	pr, pw := io.Pipe()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		b := bufio.NewWriterSize(pw, streamed)
		err := write(b)
		if err == nil {
			err = b.Flush()
		}
		pw.CloseWithError(err)
	}()
	b := bufio.NewReaderSize(pr, streamed)
	err := read(b)
	if err == nil {
		_, err = io.Copy(io.Discard, b) // what comes behind the archive's end
	}
	pr.CloseWithError(io.ErrClosedPipe)
	<-wrote
	return err
}

// hashed is the hash of the file or directory rel as the history has it: file:…, dir:….
func (p *place) hashed(ctx context.Context, rel string, exclude *ignorer) (string, error) {
	o := tarfs.PackOptions{Sub: rel, Name: rel, Skip: p.skip(rel, exclude)}
	if rel == "." {
		o.Sub, o.Name = "", ""
	}
	x := &summer{dir: rel == "."}
	if err := tarfs.PackTo(ctx, x, p.dir, o); err != nil {
		return "", err
	}
	sums := x.end()
	if !x.dir && len(sums) == 1 {
		return "file:" + sums[0], nil
	}
	slices.Sort(sums)
	return sumOf("dir", sums), nil
}

// copyTo copies what is in the directory rel, or the file rel, to the directory dir on the host, as it is.
func (p *place) copyTo(ctx context.Context, rel, dir string) error {
	o := tarfs.PackOptions{Sub: rel, Skip: p.skip(rel, nil)}
	if fi, err := stat(p.dir, rel); err != nil || !fi.IsDir() {
		return p.copyFileTo(ctx, rel, dir, path.Base(rel))
	}
	return p.pour(ctx, dir, "", o)
}

// copyFileTo copies the file rel to dir as name.
func (p *place) copyFileTo(ctx context.Context, rel, dir, name string) error {
	return p.pour(ctx, dir, "", tarfs.PackOptions{Sub: rel, Name: name})
}

// pour packs from the place and extracts beneath root, which nothing can lead out of.
func (p *place) pour(ctx context.Context, root, sub string, o tarfs.PackOptions, first ...*tar.Header) error {
	return p.stream(func(w io.Writer) error {
		tw := tar.NewWriter(w)
		for _, h := range first {
			if err := tw.WriteHeader(h); err != nil {
				return err
			}
		}
		if err := tarfs.PackTo(ctx, tw, p.dir, o); err != nil {
			return err
		}
		return tw.Close()
	}, func(r io.Reader) error {
		_, err := tarfs.Extract(ctx, root, r, tarfs.Options{Sub: sub})
		return err
	})
}

// glob lists what matches a pattern with wildcards, sorted, by paths relative to the place. Wildcards lead through no symbolic link.
func (p *place) glob(pattern string) (list []string, err error) {
	list = []string{"."}
	for part := range strings.SplitSeq(path.Clean(pattern), "/") {
		var next []string
		for _, dir := range list {
			if fi, err := stat(p.dir, dir); err != nil || !fi.IsDir() {
				continue
			}
			entries, err := os.ReadDir(filepath.Join(p.dir, filepath.FromSlash(dir)))
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				ok, _ := path.Match(part, e.Name()) // a bad pattern matches nothing
				if rel := path.Join(dir, e.Name()); ok && !p.ignore.out(rel) {
					next = append(next, rel)
				}
			}
		}
		list = next
	}
	return list, nil
}

// wild reports whether a source has wildcards; a backslash takes a character's meaning away.
func wild(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}
