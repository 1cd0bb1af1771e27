package tarfs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brigd/brig/internal/errs"
	"golang.org/x/sys/unix"
)

var epoch = time.Unix(1_600_000_000, 0)

// entry describes one archive entry in a short notation: "d name", "f name content", "l name target", "h name target", "c name", "p name".
func archive(t testing.TB, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		kind, rest, _ := strings.Cut(e, " ")
		name, arg, _ := strings.Cut(rest, " ")
		h := &tar.Header{Name: name, Mode: 0o644, ModTime: epoch, Format: tar.FormatPAX}
		switch kind {
		case "d":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case "f":
			h.Typeflag, h.Size = tar.TypeReg, int64(len(arg))
		case "l":
			h.Typeflag, h.Linkname = tar.TypeSymlink, arg
		case "h":
			h.Typeflag, h.Linkname = tar.TypeLink, arg
		case "c":
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, 1, 3
		case "w":
			h.Typeflag = tar.TypeChar
		case "p":
			h.Typeflag = tar.TypeFifo
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(tw, arg)
		}
	}
	tw.Close()
	return b.Bytes()
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners, devices and trusted attributes")
	}
}

// owner lets tests extract as any user.
func owner() *Owner {
	if os.Geteuid() == 0 {
		return nil
	}
	return &Owner{-1, -1}
}

// tree lists what is in dir: path, kind, and content or target.
func tree(t testing.TB, dir string) string {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	list, err := within(root, "")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}

// within is tree's list of one directory, whose path is prefix. Each is opened in the one above: an archive's paths may be longer than
// what the system takes at once, which is 1024 bytes on FreeBSD.
func within(dir *os.Root, prefix string) (list []string, err error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, n := range names {
		fi, err := dir.Lstat(n)
		if err != nil {
			return nil, err
		}
		rel, beneath := prefix+n, []string(nil)
		switch m := fi.Mode(); {
		case m.IsDir():
			var mark string
			mark, beneath, err = directory(dir, n, rel+"/")
			rel += "/" + strings.Repeat("!", len(mark))
		case m.IsRegular():
			var b []byte
			b, err = dir.ReadFile(n)
			rel += "=" + string(b)
		case m&fs.ModeSymlink != 0:
			var l string
			l, err = dir.Readlink(n)
			rel += "->" + l
		case m&fs.ModeCharDevice != 0:
			rdev := uint64(fi.Sys().(*syscall.Stat_t).Rdev)
			rel += fmt.Sprintf(" c%d:%d", unix.Major(rdev), unix.Minor(rdev))
		default:
			rel += " " + m.Type().String()
		}
		if err != nil {
			return nil, err
		}
		list = append(append(list, rel), beneath...)
	}
	return list, nil
}

// directory is what tree shows of the directory name in dir: overlayfs's mark, and what is beneath.
func directory(dir *os.Root, name, rel string) (mark string, beneath []string, err error) {
	sub, err := dir.OpenRoot(name)
	if err != nil {
		return "", nil, err
	}
	defer sub.Close()
	f, err := sub.Open(".")
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	mark, _ = getXattr(node{fd: int(f.Fd())}, opaqueXattr)
	beneath, err = within(sub, rel)
	return mark, beneath, err
}

func extract(t testing.TB, dir string, b []byte, o Options) (Stats, error) {
	t.Helper()
	if o.Owner == nil {
		o.Owner = owner()
	}
	return Extract(context.Background(), dir, bytes.NewReader(b), o)
}

func TestExtractApply(t *testing.T) {
	for _, c := range []struct {
		name          string
		lower, layer  []string
		want, invalid string
	}{
		{"plain", nil, []string{"d a", "f a/x 1", "l a/l x", "h a/h a/x", "p a/p"}, "a/ a/h=1 a/l->x a/p p--------- a/x=1", ""},
		{"implied parents", nil, []string{"f a/b/c 1"}, "a/ a/b/ a/b/c=1", ""},
		{"odd names", nil, []string{"f ./x 1", "f /abs 2", "f a/../y 3", "f a//z 4"}, "a/ a/z=4 abs=2 x=1 y=3", ""},
		{"duplicate", nil, []string{"f x 1", "f x 2"}, "x=2", ""},
		{"file over dir and back", []string{"d a", "f a/x 1", "f b 1"}, []string{"f a 2", "d b", "f b/y 3"}, "a=2 b/ b/y=3", ""},
		{"dir over file, implied", []string{"f b 1"}, []string{"f b/y 3"}, "b/ b/y=3", ""},
		{"dir replaces symlink", []string{"d u", "l s u"}, []string{"d s", "f s/x 1"}, "s/ s/x=1 u/", ""},
		{"parent symlink inside", []string{"d usr/lib", "l lib usr/lib"}, []string{"f lib/x 1"}, "lib->usr/lib usr/ usr/lib/ usr/lib/x=1", ""},
		{"parent symlink absolute stays inside", []string{"d usr/lib", "l lib /usr/lib"}, []string{"f lib/x 1"}, "lib->/usr/lib usr/ usr/lib/ usr/lib/x=1", ""},
		{"symlink with dots inside", []string{"d a/b", "d c", "l a/b/l ../../c"}, []string{"f a/b/l/x 1"}, "a/ a/b/ a/b/l->../../c c/ c/x=1", ""},
		{"dangling parent symlink", []string{"l lib usr/lib"}, []string{"f lib/x 1"}, "lib->usr/lib usr/ usr/lib/ usr/lib/x=1", ""},
		{"file over symlink does not follow", []string{"f t 1", "l s t"}, []string{"f s 2"}, "s=2 t=1", ""},
		{"whiteout file", []string{"f a 1", "f b 2"}, []string{"f .wh.a"}, "b=2", ""},
		{"whiteout tree", []string{"d d", "f d/x 1", "d d/e"}, []string{"f .wh.d"}, "", ""},
		{"whiteout of nothing", []string{"f a 1"}, []string{"f .wh.zz", "f q/.wh.zz"}, "a=1", ""},
		{"whiteout spares its own layer", []string{"d d", "f d/x 1"}, []string{"f d/new 2", "f .wh.d"}, "d/ d/new=2", ""},
		{"whiteout then again", []string{"d d", "f d/x 1"}, []string{"f .wh.d", "d d", "f d/y 2"}, "d/ d/y=2", ""},
		{"opaque", []string{"d d", "f d/x 1"}, []string{"d d", "f d/.wh..wh..opq", "f d/y 2"}, "d/ d/y=2", ""},
		{"opaque last", []string{"d d", "f d/x 1"}, []string{"f d/y 2", "f d/.wh..wh..opq"}, "d/ d/y=2", ""},
		{"opaque root", []string{"d d", "f e 1"}, []string{"f .wh..wh..opq", "f y 2"}, "y=2", ""},
		{"aufs bookkeeping", nil, []string{"d .wh..wh.plnk", "f .wh..wh.plnk/1.2 x", "f .wh..wh.aufs"}, "", ""},
		{"hard link to a lower file", []string{"f a 1"}, []string{"h b a"}, "a=1 b=1", ""},
		{"hard link to itself", nil, []string{"f a 1", "h a a"}, "a=1", ""},
		{"hard link to a symlink", nil, []string{"l s /etc/passwd", "h b s"}, "b->/etc/passwd s->/etc/passwd", ""},
		{"whiteout through a symlink", []string{"d t", "f t/x 1", "l s t"}, []string{"f s/.wh.x"}, "s->t t/", ""},

		{"traversal", nil, []string{"f ../outside/evil 1"}, "", "leaves the root"},
		{"traversal inside", nil, []string{"f a/../../outside/evil 1"}, "", "leaves the root"},
		{"dot dot", nil, []string{"d .."}, "", "leaves the root"},
		{"symlink parent", nil, []string{"l s ../outside", "f s/evil 1"}, "s->../outside", "leaves the root"},
		{"symlink parent, two steps", nil, []string{"d a", "l a/s ..", "l a/s/t ../outside", "f a/s/t/evil 1"}, "a/ a/s->.. t->../outside", "leaves the root"},
		{"symlink loop", nil, []string{"l a b", "l b a", "f a/x 1"}, "a->b b->a", "too many"},
		{"hard link escape", nil, []string{"h x ../outside/sentinel"}, "", "leaves the root"},
		{"hard link escape through a symlink", nil, []string{"l s ../outside", "h x s/sentinel"}, "s->../outside", "leaves the root"},
		{"hard link to a directory", nil, []string{"d d", "h x d"}, "d/", "missing or a directory"},
		{"hard link to nothing", nil, []string{"h x d"}, "", "missing or a directory"},
		{"hard link over its parent", nil, []string{"f d/x 1", "h d d/x"}, "d/ d/x=1", "parent of its target"},
		{"whiteout of dot dot", nil, []string{"d d", "f d/.wh..."}, "d/", "whiteout of nothing"},
		{"whiteout of dot", nil, []string{"d d", "f d/.wh.."}, "d/", "whiteout of nothing"},
		{"whiteout of the empty name", nil, []string{"d d", "f d/.wh."}, "d/", "whiteout of nothing"},
		{"whiteout through an escaping symlink", nil, []string{"l s ../outside", "f s/.wh.sentinel"}, "s->../outside", "leaves the root"},
		{"opaque through an escaping symlink", nil, []string{"l s ../outside", "f s/.wh..wh..opq"}, "s->../outside", "leaves the root"},
		{"beneath a whiteout", nil, []string{"f .wh.d/x 1"}, "", "lies in a whiteout"},
		{"long component", nil, []string{"f " + strings.Repeat("n", 300) + " 1"}, "", "name too long"},
		{"long name", nil, []string{"f " + strings.Repeat("n/", 3000) + "x 1"}, "", "more than 4096"},
		{"deep", nil, []string{"f " + strings.Repeat("n/", 600) + "x 1"}, "", "deeper"},
		{"root as a file", nil, []string{"f . 1"}, "", "replace the root"},
		{"root as a symlink", nil, []string{"l ./ ../outside"}, "", "replace the root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, workers := range []int{1, 3} {
				w := newWitness(t)
				if _, err := extract(t, w.root, archive(t, c.lower...), Options{Whiteouts: Apply, Workers: workers}); err != nil {
					t.Fatal(err)
				}
				_, err := extract(t, w.root, archive(t, c.layer...), Options{Whiteouts: Apply, Workers: workers})
				switch {
				case c.invalid == "" && err != nil:
					t.Fatal(err)
				case c.invalid != "" && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.invalid)):
					t.Fatalf("error %v, want Invalid with %q", err, c.invalid)
				}
				if got := tree(t, w.root); got != c.want {
					t.Errorf("tree\n got %s\nwant %s", got, c.want)
				}
				w.check(t)
			}
		})
	}
}

func TestExtractOverlay(t *testing.T) {
	needRoot(t)
	needOverlayfs(t)
	lower := []string{"d d", "f d/x 1", "f e 2", "d usr/lib", "l lib usr/lib", "d tmp"}
	for _, c := range []struct {
		name  string
		layer []string
		want  string
	}{
		{"whiteout", []string{"f .wh.e", "f d/.wh.x"}, "d/ d/x c0:0 e c0:0"},
		{"whiteout of nothing", []string{"f .wh.none", "f none/.wh.x"}, ""},
		{"opaque", []string{"d d", "f d/.wh..wh..opq", "f d/y 1"}, "d/! d/y=1"},
		{"opaque of nothing", []string{"d new", "f new/.wh..wh..opq"}, "new/"},
		{"whiteout then directory", []string{"f .wh.d", "d d", "f d/y 1"}, "d/! d/y=1"},
		{"whiteout then implied directory", []string{"f .wh.d", "f d/y 1"}, "d/! d/y=1"},
		{"directory then whiteout", []string{"d d", "f d/y 1", "f .wh.d"}, "d/! d/y=1"},
		{"whiteout inside, then opaque", []string{"f d/.wh.x", "f d/.wh..wh..opq"}, "d/!"},
		{"opaque root", []string{"f .wh..wh..opq", "d d", "f y 1"}, "d/! e c0:0 lib c0:0 tmp c0:0 usr c0:0 y=1"},
		{"symlink of a lower layer", []string{"f lib/z 1"}, "usr/ usr/lib/ usr/lib/z=1"},
		{"hard link to a lower file", []string{"h g e"}, "e=2 g=2"},
		{"overlay's own whiteout", []string{"w e"}, "e c0:0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			low, root := t.TempDir(), t.TempDir()
			if _, err := extract(t, low, archive(t, lower...), Options{Whiteouts: Apply}); err != nil {
				t.Fatal(err)
			}
			os.Chmod(filepath.Join(low, "tmp"), 0o1777|fs.ModeSticky)
			o := Options{Whiteouts: Overlay, Lower: func() (string, error) { return low, nil }}
			if _, err := extract(t, root, archive(t, c.layer...), o); err != nil {
				t.Fatal(err)
			}
			if got := tree(t, root); got != c.want {
				t.Errorf("tree\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestImpliedDirectoryIsLikeTheLowerOne(t *testing.T) {
	needRoot(t)
	low, root := t.TempDir(), t.TempDir()
	os.Mkdir(filepath.Join(low, "tmp"), 0o700)
	os.Chown(filepath.Join(low, "tmp"), 5, 6)
	os.Chmod(filepath.Join(low, "tmp"), 0o777|fs.ModeSticky)
	os.Chtimes(filepath.Join(low, "tmp"), epoch, epoch)
	o := Options{Whiteouts: Overlay, Lower: func() (string, error) { return low, nil }}
	if _, err := extract(t, root, archive(t, "f tmp/x 1"), o); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(root, "tmp"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Mode != unix.S_IFDIR|0o1777 || st.Uid != 5 || st.Gid != 6 || st.Mtim.Sec != epoch.Unix() {
		t.Errorf("tmp: mode %o, owner %d:%d, time %d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
	}
}

func TestAttributes(t *testing.T) {
	needRoot(t)
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	for _, h := range []*tar.Header{
		{Name: "su", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 7, Gid: 8, ModTime: epoch, PAXRecords: map[string]string{
			schily + "security.capability": capability, schily + "user.note": "hi", schily + "trusted.overlay.opaque": "y"}},
		{Name: "d", Typeflag: tar.TypeDir, Mode: 0o2750, Uid: 9, Gid: 10, ModTime: epoch},
		{Name: "d/late", Typeflag: tar.TypeReg, Mode: 0o600, ModTime: epoch},
		{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: epoch},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "su", Uid: 11, Gid: 12, ModTime: epoch},
	} {
		h.Format = tar.FormatPAX
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	tw.Close()
	dir := t.TempDir()
	st, err := extract(t, dir, b.Bytes(), Options{Whiteouts: Apply})
	if err != nil || st.Entries != 5 || st.Unkept != 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	for name, want := range map[string][3]uint32{
		"su": {unix.S_IFREG | 0o4755, 7, 8}, "d": {unix.S_IFDIR | 0o2750, 9, 10},
		"null": {unix.S_IFCHR | 0o666, 0, 0}, "link": {unix.S_IFLNK | linkMode(), 11, 12},
	} {
		i, err := lstat(unix.AT_FDCWD, filepath.Join(dir, name))
		if err != nil || [3]uint32{i.mode, i.uid, i.gid} != want || i.mtime.Sec != epoch.Unix() {
			t.Errorf("%s: %o %d:%d at %d, %v", name, i.mode, i.uid, i.gid, i.mtime.Sec, err)
		}
	}
	su := nodeOf(t, filepath.Join(dir, "su"))
	got, err := xattrs(su)
	if err != nil || got["security.capability"] != capability || got["user.note"] != "hi" || len(got) != 2 {
		t.Errorf("attributes %q, %v", got, err)
	}
	if _, err := getXattr(su, opaqueXattr); err == nil {
		t.Error("an archive set the mark of overlayfs")
	}
}

func TestLimits(t *testing.T) {
	three := archive(t, "f a 1234567890", "f b 1234567890", "f c 1")
	for _, c := range []struct {
		name string
		o    Options
		ok   bool
	}{
		{"defaults", Options{}, true},
		{"entries", Options{MaxEntries: 2}, false},
		{"bytes", Options{MaxBytes: 20}, false},
		{"just enough bytes", Options{MaxBytes: 21}, true},
	} {
		if _, err := extract(t, t.TempDir(), three, c.o); (err == nil) != c.ok || (err != nil && !errs.Is(err, errs.Invalid)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestReadsToTheEnd(t *testing.T) {
	b := append(archive(t, "f a 1"), bytes.Repeat([]byte("trailing"), 50_000)...)
	h := sha256.New()
	_, err := Extract(t.Context(), t.TempDir(), io.TeeReader(bytes.NewReader(b), h), Options{Owner: owner()})
	if err != nil || !bytes.Equal(h.Sum(nil), sum(b)) {
		t.Errorf("hash of what was read differs, %v", err)
	}
}

func sum(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

func TestDamaged(t *testing.T) {
	whole := archive(t, "f a "+strings.Repeat("x", 5000), "f b 1")
	for name, b := range map[string][]byte{
		"truncated content": whole[:3000], "truncated header": whole[:700], "garbage": bytes.Repeat([]byte("garbage!"), 200),
	} {
		if _, err := extract(t, t.TempDir(), b, Options{}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := extract(t, t.TempDir(), nil, Options{}); err != nil {
		t.Errorf("empty input: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Extract(ctx, t.TempDir(), bytes.NewReader(whole), Options{}); !errs.Is(err, errs.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCopyInto(t *testing.T) {
	for _, c := range []struct {
		name        string
		have, tar   []string
		o           Options
		want, wrong string
	}{
		{"into a directory", []string{"d a", "l s /a"}, []string{"f x 1", "f .wh.y 2"}, Options{Sub: "a"}, "a/ a/.wh.y=2 a/x=1 s->/a", ""},
		{"through a symlink", []string{"d a/b", "d c", "l a/b/s /c"}, []string{"f s/x 1"}, Options{Sub: "a/b"}, "a/ a/b/ a/b/s->/c c/ c/x=1", ""},
		{"no dir by file", []string{"d a"}, []string{"f a 1"}, Options{NoOverwriteDirNonDir: true}, "a/", "cannot overwrite directory"},
		{"no file by dir", []string{"f a 1"}, []string{"d a"}, Options{NoOverwriteDirNonDir: true}, "a=1", "cannot overwrite non-directory"},
		{"dir by file", []string{"d a", "f a/x 1"}, []string{"f a 1"}, Options{}, "a=1", ""},
		{"beneath a file", []string{"f a 1"}, []string{"f a/x 1"}, Options{}, "a=1", "not a directory"},
	} {
		dir := t.TempDir()
		if _, err := extract(t, dir, archive(t, c.have...), Options{}); err != nil {
			t.Fatal(err)
		}
		_, err := extract(t, dir, archive(t, c.tar...), c.o)
		if (c.wrong == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := tree(t, dir); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}
