package tarfs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// changes reads "A /x M /y D /z".
func changes(s string) (list []brig.Change) {
	f := strings.Split(s, " ") // names may hold newlines
	for i := 0; i+1 < len(f); i += 2 {
		kind := map[string]brig.ChangeKind{"A": brig.ChangeAdded, "M": brig.ChangeModified, "D": brig.ChangeDeleted}[f[i]]
		list = append(list, brig.Change{Path: f[i+1], Kind: kind})
	}
	return list
}

func packedChanges(t *testing.T, dir, list string) ([]byte, error) {
	t.Helper()
	var b bytes.Buffer
	err := PackChanges(t.Context(), &b, dir, changes(list))
	return b.Bytes(), err
}

func TestPackChanges(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name, have, list, want, invalid string
	}{
		{"nothing", "d a,f a/x 1", "", "", ""},
		{"added file and its parents", "d a/b,f a/b/x 1,f z 2", "A /a/b/x", "5 a/,5 a/b/,0 a/b/x", ""},
		{"parents once", "d a/b,f a/x 1,f a/b/y 2,f a/b/z 3", "M /a/x M /a/b/y M /a/b/z A /a/b", "5 a/,5 a/b/,0 a/b/y,0 a/b/z,0 a/x", ""},
		{"directory without its contents", "d a,f a/x 1", "M /a", "5 a/", ""},
		{"any order", "d a,f a/x 1,f a-b 2,f a.c 3", "A /a.c A /a/x A /a-b A /a", "5 a/,0 a/x,0 a-b,0 a.c", ""},
		{"twice the same", "f x 1", "A /x A /x", "0 x", ""},
		{"deleted", "d a", "D /a/x D /y", "5 a/,0 a/.wh.x,0 .wh.y", ""},
		{"deleted in what was deleted", "d a", "D /q/x", "", ""},
		{"hard links among the changed", "d a,f a/x 1,h b a/x,h c a/x", "M /a/x A /c", "5 a/,0 a/x,1 c", ""},
		{"symlink, fifo, device", "l l /etc/passwd,p p,c c", "A /l A /p A /c", "3 c,2 l,6 p", ""},
		{"symlink to a directory is not entered", "d d,f d/x 1,l l d", "A /l A /l/x", "2 l", ""},
		{"gone meanwhile", "d a", "A /a/x M /a/y", "5 a/,0 a/.wh.y", ""},
		{"overlayfs's whiteout is not there", "w a,w b", "A /a M /b", "0 .wh.b", ""},
		{"the root itself", "d a", "M / A /a", "5 ./,5 a/", ""},
		{"newline and bytes", "f a\nb 1,f \xff\xfe 2", "A /\xff\xfe A /a\nb", "0 a\nb,0 \xff\xfe", ""},
		{"relative", "f x 1", "A x", "", "absolute"},
		{"dots", "f x 1", "A /a/../x", "", "absolute"},
		{"double slash", "f x 1", "A //x", "", "absolute"},
		{"root deleted", "f x 1", "D /", "", "root"},
		{"named like a whiteout", "f .wh.x 1", "A /.wh.x", "", "whiteout"},
		{"beneath a name like a whiteout", "d .wh.d,f .wh.d/x 1", "A /.wh.d/x", "", "whiteout"},
		{"deleted, named like a whiteout", "d d", "D /d/.wh..opq", "", "whiteout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := extract(t, dir, archive(t, strings.Split(c.have, ",")...), Options{}); err != nil {
				t.Fatal(err)
			}
			list := changes(c.list)
			var b bytes.Buffer
			err := PackChanges(t.Context(), &b, dir, list)
			if c.invalid != "" {
				if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.invalid) {
					t.Fatalf("error %v, want Invalid with %q", err, c.invalid)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(entries(t, b.Bytes()), ","); got != c.want {
				t.Errorf("entries\n got %s\nwant %s", got, c.want)
			}
			slices.Reverse(list)
			var again bytes.Buffer
			if err := PackChanges(t.Context(), &again, dir, list); err != nil || !bytes.Equal(again.Bytes(), b.Bytes()) {
				t.Errorf("the order of changes matters, %v", err)
			}
		})
	}
}

// TestChangesRoundTrip applies the packed changes to a copy of the old tree, which then packs like the new one.
func TestChangesRoundTrip(t *testing.T) {
	needRoot(t)
	for _, mode := range []Whiteouts{Apply, Overlay} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			if mode == Overlay {
				needOverlayfs(t)
			}
			old, changed := sample(t), t.TempDir()
			if err := Copy(t.Context(), changed, old); err != nil {
				t.Fatal(err)
			}
			in := func(name string) string { return filepath.Join(changed, name) }
			for _, err := range []error{
				os.WriteFile(in("b/deep/new"), []byte("new"), 0o4711), os.Link(in("b/deep/new"), in("new-link")),
				os.Remove(in("sym")), os.Mkdir(in("sym"), 0o1777), os.WriteFile(in("sym/x"), nil, 0o600),
				os.Remove(in("fifo")), os.Chown(in("b/deep/new"), 77, 88), os.Chmod(in("b/deep/new"), 0o4711|os.ModeSetuid),
				setXattr(nodeOf(t, in("b/deep")), "user.dir", "d"),
				os.Chtimes(in("b/deep"), epoch, epoch), os.Chtimes(in("b"), epoch, epoch),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			b, err := packedChanges(t, changed, "A /b/deep/new A /new-link M /sym A /sym/x D /fifo M /b M /b/deep M /")
			if err != nil {
				t.Fatal(err)
			}
			got := applyOver(t, mode, old, b)
			if want := packed(t, changed, PackOptions{Name: "."}); !bytes.Equal(got, want) {
				t.Errorf("%s\nwant %s", strings.Join(entries(t, got), "\n"), strings.Join(entries(t, want), "\n"))
			}
		})
	}
}

// applyOver applies the layer b to a copy of old, or mounts it over old with overlayfs, and packs what comes out.
func applyOver(t *testing.T, mode Whiteouts, old string, b []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	if mode == Apply {
		if err := Copy(t.Context(), dir, old); err != nil {
			t.Fatal(err)
		}
		if _, err := extract(t, dir, b, Options{Whiteouts: Apply}); err != nil {
			t.Fatal(err)
		}
		return packed(t, dir, PackOptions{Name: "."})
	}
	if _, err := extract(t, dir, b, Options{Whiteouts: Overlay, Lower: func() (string, error) { return old, nil }}); err != nil {
		t.Fatal(err)
	}
	merged := t.TempDir()
	mountOverlay(t, merged, old, dir)
	return packed(t, merged, PackOptions{Name: "."})
}

func TestPackChangesEnds(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "x"), []byte("1"), 0o600)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := PackChanges(ctx, io.Discard, dir, changes("A /x")); !errs.Is(err, errs.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := PackChanges(t.Context(), io.Discard, filepath.Join(dir, "none"), nil); err == nil {
		t.Error("no directory, no error")
	}
}
