package tarfs

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// witness is a directory with the root of an extraction in it, and beside it things that must stay as they are.
type witness struct {
	top, root, low string
	before         string
}

func newWitness(t testing.TB) *witness {
	t.Helper()
	top := t.TempDir()
	w := &witness{top: top, root: filepath.Join(top, "root"), low: filepath.Join(top, "low")}
	in := func(name string) string { return filepath.Join(top, name) }
	for _, err := range []error{
		os.Mkdir(w.root, 0o755), os.MkdirAll(in("outside/deep/a"), 0o750), os.WriteFile(in("outside/sentinel"), []byte("safe"), 0o600),
		os.WriteFile(in("outside/deep/suid"), []byte("x"), 0o4711), os.Link(in("outside/sentinel"), in("outside/deep/link")),
		os.Symlink("sentinel", in("outside/s")), unix.Mkfifo(in("outside/p"), 0o640), os.Mkdir(in("empty"), 0o1777),
		os.MkdirAll(filepath.Join(w.low, "a/b"), 0o755), os.WriteFile(filepath.Join(w.low, "a/x"), []byte("low"), 0o644),
		os.WriteFile(filepath.Join(w.low, "e"), []byte("low"), 0o644), os.Symlink("../outside", filepath.Join(w.low, "s")),
		os.Symlink("a", filepath.Join(w.low, "in")), os.Chtimes(in("outside"), epoch, epoch), os.Chtimes(in("outside/deep"), epoch, epoch),
		os.Chtimes(w.root, epoch, epoch), os.Chtimes(filepath.Join(w.low, "a/b"), epoch, epoch),
		os.Chtimes(filepath.Join(w.low, "a"), epoch, epoch), os.Chtimes(w.low, epoch, epoch),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.before = w.look(t)
	return w
}

// look describes everything but what is in the root: kinds, modes, owners, links, inodes, all times but that of reading, contents.
func (w *witness) look(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(w.top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == w.root {
			return fs.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %o %d:%d links %d inode %d size %d changed %d %d", p[len(w.top):], st.Mode, st.Uid, st.Gid, st.Nlink, st.Ino,
			st.Size, st.Mtim.Nano(), st.Ctim.Nano())
		if d.Type().IsRegular() {
			c, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", c)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// check fails the test if anything but the root's contents changed.
func (w *witness) check(t testing.TB) {
	t.Helper()
	if now := w.look(t); now != w.before {
		t.Errorf("something outside the root changed: before\n%s\nnow\n%s", w.before, now)
	}
}

// options are those of a mode; an overlay layer stands on w.low.
func (w *witness) options(mode Whiteouts, workers int) Options {
	o := Options{Whiteouts: mode, Workers: workers, Owner: owner()}
	if mode == Overlay {
		o.Lower = func() (string, error) { return w.low, nil }
	}
	return o
}

// everyWay extracts b in each mode, as a layer with and without workers, into roots that first got lower. Nothing outside the roots
// may change, and the number of workers must make no difference. It returns the error for each mode; with lower it
// leaves out None, and Overlay where there is no overlayfs.
func everyWay(t testing.TB, lower, b []byte, change func(*Options)) (list [3]error) {
	t.Helper()
	for _, mode := range []Whiteouts{None, Apply, Overlay} {
		if mode == None && lower != nil {
			continue // workers are for layers
		}
		if mode == Overlay && (os.Geteuid() != 0 || !overlayfs) {
			continue
		}
		var first string
		for _, workers := range []int{1, 3} {
			w := newWitness(t)
			if lower != nil {
				if _, err := extract(t, w.root, lower, Options{}); err != nil {
					t.Fatal(err)
				}
				os.Chtimes(w.root, epoch, epoch)
			}
			o := w.options(mode, workers)
			if change != nil {
				change(&o)
			}
			_, err := extract(t, w.root, b, o)
			w.check(t)
			list[mode] = err
			got := fmt.Sprint(err)
			if err == nil && mode != None {
				var tar bytes.Buffer
				// Whiteouts have the time of their making.
				white := func(rel string) bool {
					st, err := lstat(unix.AT_FDCWD, filepath.Join(w.root, rel))
					return err == nil && st.isWhiteout()
				}
				if err := Pack(t.Context(), &tar, w.root, PackOptions{Name: ".", Skip: white}); err != nil {
					t.Fatal(err)
				}
				got = tree(t, w.root) + fmt.Sprintf(" %x", sum(tar.Bytes()))
			}
			if workers == 1 {
				first = got
			} else if got != first {
				t.Errorf("mode %d: with %d workers\n%s\nwithout\n%s", mode, workers, got, first)
			}
			os.RemoveAll(w.top)
		}
	}
	return list
}
