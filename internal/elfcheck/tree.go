package elfcheck

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links lead to one file, as the kernel has it (MAXSYMLINKS).
const maxLinks = 40

// minELF is the size of the smallest ELF header, of 32 bits.
const minELF = 52

// A tree is an image's root directory. Names in it are absolute, and links lead where they would in a container.
type tree struct {
	root *os.Root
	// Filled by programs:
	elfs  map[string][]string // all ELF files by base name, and those that links of that name lead to
	many  map[string]int      // how many other names a file has, hard links and symbolic ones
	first map[string]string   // what of several hard links stands for all
	dirs  map[string][]string // libraryDirs, by platform
}

// resolve follows all links of name and returns the file's own name, "/bin/busybox".
func (t *tree) resolve(name string) (string, fs.FileInfo, error) {
	links := 0
	rest := strings.Split(path.Clean("/" + name)[1:], "/")
	at := "."
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		info, err := t.root.Lstat(next)
		if err != nil {
			return "", nil, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", nil, &fs.PathError{Op: "follow", Path: name, Err: errors.New("too many links")}
		}
		to, err := t.root.Readlink(next)
		if err != nil {
			return "", nil, err
		}
		if path.IsAbs(to) {
			at = "."
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	info, err := t.root.Lstat(at)
	if err != nil {
		return "", nil, err
	}
	return path.Join("/", at), info, nil
}

// open opens the regular file that name leads to.
func (t *tree) open(name string) (*os.File, string, error) {
	at, info, err := t.resolve(name)
	if err != nil {
		return nil, "", err
	}
	if !info.Mode().IsRegular() {
		return nil, "", &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	f, err := t.root.Open(at[1:])
	return f, at, err
}

// text reads the beginning of a file, at most n bytes.
func (t *tree) text(name string, n int64) (string, error) {
	f, _, err := t.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, n))
	return string(b), err
}

// programs lists the ELF files that may be executed, each once, and fills the tree's tables.
func (t *tree) programs(ctx context.Context) (out []string, err error) {
	t.elfs, t.many, t.first = map[string][]string{}, map[string]int{}, map[string]string{}
	var links []string
	inodes := map[[2]uint64]string{}
	err = fs.WalkDir(t.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		full := "/" + name
		if d.Type()&fs.ModeSymlink != 0 {
			links = append(links, full)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() < minELF || !t.isELF(name) {
			return nil
		}
		t.elfs[path.Base(name)] = append(t.elfs[path.Base(name)], full)
		if info.Mode()&0o111 == 0 {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			ino := [2]uint64{uint64(st.Dev), uint64(st.Ino)}
			if first := inodes[ino]; first != "" {
				t.first[full] = first
				t.many[first]++
				return nil
			}
			inodes[ino] = full
		}
		out = append(out, full)
		return nil
	})
	for _, l := range links {
		to, info, err := t.resolve(l)
		if err != nil || !info.Mode().IsRegular() || !slices.Contains(t.elfs[path.Base(to)], to) {
			continue // it leads nowhere, or to what is no program
		}
		if b := path.Base(l); b != path.Base(to) {
			t.elfs[b] = append(t.elfs[b], to)
		}
		t.many[t.canonical(to)]++
	}
	return out, err
}

// canonical is the name under which programs lists a file.
func (t *tree) canonical(name string) string {
	if f := t.first[name]; f != "" {
		return f
	}
	return name
}

func (t *tree) isELF(name string) bool {
	f, err := t.root.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:]) == "\x7fELF"
}
