package tarfs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sample makes a tree with one of everything.
func sample(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "b/deep"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "b/deep/file"), []byte("content"), 0o640))
	must(os.Link(filepath.Join(dir, "b/deep/file"), filepath.Join(dir, "a-link")))
	must(os.Symlink("/etc/passwd", filepath.Join(dir, "sym")))
	must(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(os.WriteFile(filepath.Join(dir, strings.Repeat("n", 200)), nil, 0o600))
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(err)
	defer unix.Close(s)
	t.Chdir(dir)
	must(unix.Bind(s, &unix.SockaddrUnix{Name: "socket"}))
	f, err := os.Create(filepath.Join(dir, "holes"))
	must(err)
	_, err = f.WriteAt([]byte("end"), 8<<20)
	must(err)
	must(f.Close())
	if os.Geteuid() == 0 {
		must(os.Chown(filepath.Join(dir, "b"), 12, 34))
		must(os.Chmod(filepath.Join(dir, "b"), 0o755|os.ModeSetgid))
		must(mknodat(unix.AT_FDCWD, filepath.Join(dir, "null"), unix.S_IFCHR|0o666, 1, 3))
	}
	must(setXattr(nodeOf(t, filepath.Join(dir, "b/deep/file")), "user.note", "hello"))
	for _, n := range []string{"b/deep/file", "b/deep", "b", "."} {
		must(os.Chtimes(filepath.Join(dir, n), epoch, epoch.Add(time.Nanosecond*5)))
	}
	return dir
}

// entries lists an archive's headers.
func entries(t *testing.T, b []byte) (list []string) {
	t.Helper()
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%c %s", h.Typeflag, h.Name))
	}
}

func packed(t *testing.T, dir string, o PackOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Pack(t.Context(), &b, dir, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPackNames(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "etc/x"), 0o755)
	os.WriteFile(filepath.Join(dir, "etc/x/f"), []byte("1"), 0o600)
	os.WriteFile(filepath.Join(dir, "z"), []byte("2"), 0o600)
	for _, c := range []struct {
		name string
		o    PackOptions
		want string
	}{
		{"all", PackOptions{}, "5 etc/,5 etc/x/,0 etc/x/f,0 z"},
		{"prefix", PackOptions{Prefix: "rootfs/"}, "5 rootfs/,5 rootfs/etc/,5 rootfs/etc/x/,0 rootfs/etc/x/f,0 rootfs/z"},
		{"a directory by another name", PackOptions{Sub: "etc/x", Name: "y"}, "5 y/,0 y/f"},
		{"a file by another name", PackOptions{Sub: "/etc/x/f", Name: "g"}, "0 g"},
		{"dot", PackOptions{Sub: "etc", Name: "."}, "5 ./,5 ./x/,0 ./x/f"},
		{"a part", PackOptions{Sub: "etc"}, "5 x/,0 x/f"},
		{"skip", PackOptions{Skip: func(rel string) bool { return rel == "etc/x" }}, "5 etc/,0 z"},
	} {
		if got := strings.Join(entries(t, packed(t, dir, c.o)), ","); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	os.Symlink("etc", filepath.Join(dir, "s"))
	if err := Pack(t.Context(), io.Discard, dir, PackOptions{Sub: "s/x", Name: "x"}); err == nil {
		t.Error("a symlink in Sub was followed")
	}
	if err := Pack(t.Context(), io.Discard, dir, PackOptions{Sub: "z"}); err == nil {
		t.Error("a file without a name was packed")
	}
}

func TestRoundTrip(t *testing.T) {
	src := sample(t)
	one := packed(t, src, PackOptions{})
	if !bytes.Equal(one, packed(t, src, PackOptions{})) {
		t.Fatal("one tree, two archives")
	}
	for _, e := range entries(t, one) {
		if strings.Contains(e, "socket") {
			t.Error("a socket was packed")
		}
	}
	dst := t.TempDir()
	if _, err := extract(t, dst, one, Options{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, packed(t, dst, PackOptions{})) {
		t.Error("what was extracted packs differently")
	}
	cp := t.TempDir()
	if err := Copy(t.Context(), cp, src); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, packed(t, cp, PackOptions{})) {
		t.Error("the copy packs differently")
	}
	var a, b unix.Stat_t
	unix.Stat(filepath.Join(src, "holes"), &a)
	unix.Stat(filepath.Join(cp, "holes"), &b)
	if a.Size != b.Size || b.Blocks > a.Blocks+moreBlocks {
		t.Errorf("holes: %d bytes in %d blocks became %d in %d", a.Size, a.Blocks, b.Size, b.Blocks)
	}
	if err := Copy(t.Context(), cp, src); err == nil {
		t.Error("copied over what is there")
	}
}

// gnuSparse makes an old GNU sparse entry: 3 bytes at 0, 3 at 4 MiB, size 4 MiB+3.
func gnuSparse(t testing.TB) []byte {
	t.Helper()
	var blk [512]byte
	put := func(off int, s string) { copy(blk[off:], s) }
	put(0, "sparse")
	put(100, "0000644\x00")
	put(108, "0000000\x00")
	put(116, "0000000\x00")
	put(124, fmt.Sprintf("%011o\x00", 6))
	put(136, fmt.Sprintf("%011o\x00", epoch.Unix()))
	put(148, "        ")
	put(156, "S")
	put(257, "ustar  \x00")
	put(386, fmt.Sprintf("%011o\x00%011o\x00", 0, 3))
	put(410, fmt.Sprintf("%011o\x00%011o\x00", 4<<20, 3))
	put(483, fmt.Sprintf("%011o\x00", 4<<20+3))
	sum := 0
	for _, c := range blk {
		sum += int(c)
	}
	put(148, fmt.Sprintf("%06o\x00 ", sum))
	return append(append(blk[:], append([]byte("abcxyz"), make([]byte, 506)...)...), make([]byte, 1024)...)
}

func paxSparse(t testing.TB) []byte {
	t.Helper()
	content := append([]byte("2\n0\n3\n4194304\n3\n"), make([]byte, 512-16)...)
	content = append(content, "abcxyz"...)
	pax := ""
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=sparse", "GNU.sparse.realsize=4194307"} {
		n := len(r) + 4
		pax += fmt.Sprintf("%d %s\n", n, r)
	}
	raw := func(name string, kind byte, data []byte) []byte {
		var blk [512]byte
		copy(blk[0:], name)
		copy(blk[100:], "0000644\x00")
		copy(blk[108:], "0000000\x00")
		copy(blk[116:], "0000000\x00")
		copy(blk[124:], fmt.Sprintf("%011o\x00", len(data)))
		copy(blk[136:], fmt.Sprintf("%011o\x00", epoch.Unix()))
		copy(blk[148:], "        ")
		blk[156] = kind
		copy(blk[257:], "ustar\x0000")
		sum := 0
		for _, c := range blk {
			sum += int(c)
		}
		copy(blk[148:], fmt.Sprintf("%06o\x00 ", sum))
		return append(append(blk[:], data...), make([]byte, (512-len(data)%512)%512)...)
	}
	return append(append(raw("x", 'x', []byte(pax)), raw("GNUSparseFile.0/sparse", '0', content)...), make([]byte, 1024)...)
}

func TestSparse(t *testing.T) {
	for name, b := range map[string][]byte{"old GNU": gnuSparse(t), "PAX": paxSparse(t)} {
		dir := t.TempDir()
		st, err := extract(t, dir, b, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, _ := os.ReadFile(filepath.Join(dir, "sparse"))
		want := make([]byte, 4<<20+3)
		copy(want, "abc")
		copy(want[4<<20:], "xyz")
		if !bytes.Equal(got, want) || st.Bytes != int64(len(want)) {
			t.Errorf("%s: %d bytes, %+v", name, len(got), st)
		}
		var s unix.Stat_t
		unix.Stat(filepath.Join(dir, "sparse"), &s)
		if s.Blocks*512 > 1<<20 {
			t.Errorf("%s: takes %d blocks", name, s.Blocks)
		}
		if _, err := extract(t, t.TempDir(), b, Options{MaxBytes: 1 << 20}); err == nil {
			t.Errorf("%s: holes don't count", name)
		}
	}
}
