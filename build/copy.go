package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/tarfs"
)

// A copying is one COPY or ADD.
type copying struct {
	name    string // COPY or ADD
	sources []copySource
	dest    string
	chown   string
	chmod   chmod
	mode    string // chmod as given
	own     bool   // files keep the owners they have
	parents bool
	exclude []string
}

// A copySource is one file or directory that is copied.
type copySource struct {
	from    *place
	rel     string // in from, without symbolic links
	name    string // that a file gets in a directory
	above   string // with --parents: the directories that it lies in, as they are made in the destination
	pivot   string // with --parents: what above is relative to, in from
	dir     bool
	hash    string
	archive bool // its content is extracted, if it is an archive
	exclude *ignorer
}

func (s *stage) copyCommand(ctx context.Context, x *instructions.CopyCommand, more []string) error {
	from := s.context()
	if x.From != "" {
		var err error
		if from, err = s.other(ctx, x.From); err != nil {
			return errs.Wrap(err, "invalid from flag value %s", x.From)
		}
	}
	c := copying{name: "COPY", dest: x.DestPath, chown: x.Chown, mode: x.Chmod, own: x.From != "" && x.Chown == "", parents: x.Parents, exclude: x.ExcludePatterns}
	for _, p := range x.SourcePaths {
		if isURL(p) {
			return errs.New(errs.Invalid, "COPY failed: source can't be a URL for COPY")
		}
		if err := s.local(ctx, &c, from, p, false); err != nil {
			return errs.Wrap(err, "COPY failed")
		}
	}
	return s.copyAll(ctx, c, x.SourcesAndDest, more)
}

func (s *stage) addCommand(ctx context.Context, x *instructions.AddCommand, more []string) error {
	c := copying{name: "ADD", dest: x.DestPath, chown: x.Chown, mode: x.Chmod, exclude: x.ExcludePatterns}
	for _, p := range x.SourcePaths {
		var err error
		if isURL(p) || isGit(p) {
			err = s.remote(ctx, &c, x, p)
		} else if x.Checksum != "" {
			err = errs.New(errs.Invalid, "checksum can't be specified for non-HTTP(S) sources")
		} else {
			err = s.local(ctx, &c, s.context(), p, x.Unpack == nil || *x.Unpack)
		}
		if err != nil {
			return errs.Wrap(err, "ADD failed")
		}
	}
	return s.copyAll(ctx, c, x.SourcesAndDest, more)
}

// local adds what a path means in from: a file, a directory, or what matches its wildcards.
func (s *stage) local(ctx context.Context, c *copying, from *place, p string, archive bool) error {
	given := strings.TrimPrefix(strings.TrimPrefix(p, "/"), "./")
	list := []string{given}
	if wild(given) {
		var err error
		if list, err = from.glob(given); err != nil {
			return err
		}
	}
	for _, name := range list {
		rel, err := from.find(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && from.context:
			return errs.Wrap(notThere(name), "file not found in build context or excluded by .dockerignore")
		case errors.Is(err, fs.ErrNotExist):
			return notThere(name)
		case err != nil:
			return err
		}
		src := copySource{from: from, rel: rel, name: path.Base(name), archive: archive}
		if c.parents {
			src.pivot, src.above = above(p, name)
		}
		if err := s.add(ctx, c, src); err != nil {
			return err
		}
	}
	return nil
}

// above splits the directories of a source with --parents: what comes before a component that is only a dot stays out. name is what was found for pattern.
func above(pattern, name string) (pivot, dirs string) {
	dirs = path.Dir(path.Clean(name))
	if before, _, ok := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(pattern, "/"), "./"), "/./"); ok {
		n := strings.Count(path.Clean(before), "/") + 1
		parts := strings.Split(dirs, "/")
		n = min(n, len(parts))
		return path.Join(parts[:n]...), path.Join(append([]string{"."}, parts[n:]...)...)
	}
	return "", dirs
}

// add hashes a source and puts it on the list, unless it is excluded.
func (s *stage) add(ctx context.Context, c *copying, src copySource) error {
	fi, err := stat(src.from.dir, src.rel)
	if err != nil {
		return err
	}
	if src.dir = fi.IsDir(); len(c.exclude) > 0 {
		if src.dir {
			src.exclude, err = ignore(src.from.dir, src.rel, c.exclude)
		} else if out, e := excluded(src.name, src.rel, c.exclude); out || e != nil {
			return e
		}
	}
	if err == nil {
		src.hash, err = src.from.hashed(ctx, src.rel, src.exclude)
	}
	c.sources = append(c.sources, src)
	return err
}

// inline adds the heredocs of an instruction.
func (s *stage) inline(ctx context.Context, c *copying, list []instructions.SourceContent, more []string) error {
	for _, h := range list {
		data := h.Data
		if h.Expand {
			var err error
			if data, err = s.ed.Text(data, more); err != nil {
				return errs.As(errs.Invalid, err)
			}
		}
		from, name, err := s.written(h.Path, data)
		if err != nil {
			return err
		}
		if err := s.add(ctx, c, copySource{from: from, rel: name, name: name}); err != nil {
			return err
		}
	}
	return nil
}

// copyAll carries out what has been collected.
func (s *stage) copyAll(ctx context.Context, c copying, x instructions.SourcesAndDest, more []string) (err error) {
	if err := s.inline(ctx, &c, x.SourceContents, more); err != nil {
		return err
	}
	if len(c.sources) == 0 {
		return errs.New(errs.Invalid, "%s failed: no source files were specified", c.name)
	}
	if len(c.sources) > 1 && !strings.HasSuffix(c.dest, "/") && !dotDir(c.dest) {
		return errs.New(errs.Invalid, "When using %s with more than one source file, the destination must be a directory and end with a /", c.name)
	}
	if c.chmod, err = parseChmod(c.mode); err != nil {
		return err
	}
	hash := c.sources[0].hash
	if len(c.sources) > 1 {
		var all []string
		for _, src := range c.sources {
			all = append(all, src.hash)
		}
		hash = sumOf("multi", all)
	}
	chown := ""
	if c.chown != "" {
		chown = "--chown=" + c.chown
	}
	by := s.nop(fmt.Sprintf("%s %s%s in %s ", c.name, chown, hash, c.dest))
	extra := []string{c.mode, fmt.Sprint(c.parents, c.own)}
	for _, src := range c.sources {
		extra = append(extra, src.name, src.pivot, src.above, fmt.Sprint(src.dir, src.archive))
	}
	return s.carry(ctx, action{by: by, key: s.keyOf(by, extra...), work: func(ctx context.Context, t brig.Tree) error { return s.place(ctx, c, t.Path) }})
}

// place copies everything into the tree at root.
func (s *stage) place(ctx context.Context, c copying, root string) error {
	dest := c.dest
	if !path.IsAbs(dest) {
		slash := strings.HasSuffix(dest, "/") || dotDir(dest)
		if dest = path.Join("/", s.ed.Config.WorkingDir, dest); slash && dest != "/" {
			dest += "/"
		}
	}
	who := &tarfs.Owner{}
	if c.own {
		who = nil
	}
	if c.chown != "" {
		o, err := lookUp(root, c.chown)
		if err != nil {
			return errs.New(errs.Invalid, "unable to convert uid/gid chown string to host mapping: %w", err)
		}
		who = &o
	}
	for _, src := range c.sources {
		d := drop{root: root, dest: dest, who: who, chmod: c.chmod}
		if err := s.drop(ctx, c, src, d); err != nil {
			return errs.Wrap(err, "failed to copy files")
		}
	}
	return nil
}

// drop copies one source.
func (s *stage) drop(ctx context.Context, c copying, src copySource, d drop) error {
	if c.parents {
		if err := d.lead(src); err != nil {
			return err
		}
		d.dest = strings.TrimSuffix(path.Join(d.dest, src.above), "/") + "/"
		if src.dir {
			d.dest += src.name
		}
	}
	if src.dir {
		return d.directory(ctx, src)
	}
	if src.archive {
		if done, err := s.unpack(ctx, c, src, d); done || err != nil {
			return err
		}
	}
	return d.file(ctx, src)
}

// edit gives the entries of a copy their owner and mode.
func (d drop) edit(h *tar.Header) {
	if d.who != nil {
		h.Uid, h.Gid = d.who.UID, d.who.GID
	}
	if d.chmod != nil && h.Typeflag != tar.TypeSymlink {
		h.Mode = d.chmod(h.Mode, h.Typeflag == tar.TypeDir)
	}
}

// dotDir says that a path names a directory by its last component.
func dotDir(p string) bool { return slices.Contains([]string{".", ".."}, path.Base(p)) && p != "" }
