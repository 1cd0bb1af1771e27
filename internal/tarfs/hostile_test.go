package tarfs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
)

// block makes one header block of 512 bytes by hand, for what archive/tar would not write.
func block(name string, kind byte, size string, change func([]byte)) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	copy(b[124:], size)
	copy(b[136:], "13727410000\x00")
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	if change != nil {
		change(b)
	}
	copy(b[148:], "        ")
	n := 0
	for _, c := range b {
		n += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", n))
	return b
}

// one makes an archive of one header.
func one(t testing.TB, h tar.Header, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
	}
	h.Size = int64(len(body))
	if err := tw.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	io.WriteString(tw, body)
	tw.Close()
	return b.Bytes()
}

// paxRecord writes a record of a PAX header, whose first field is its own length.
func paxRecord(k, v string) string {
	n := len(k) + len(v) + 3
	for len(fmt.Sprint(n))+len(k)+len(v)+3 != n {
		n++
	}
	return fmt.Sprintf("%d %s=%s\n", n, k, v)
}

// withPAX puts PAX records before an empty file x.
func withPAX(records ...string) []byte {
	body := strings.Join(records, "")
	b := append(block("pax", 'x', fmt.Sprintf("%011o\x00", len(body)), nil), body...)
	b = append(b, make([]byte, (512-len(body)%512)%512)...)
	return append(append(b, block("x", '0', "00000000000\x00", nil)...), make([]byte, 1024)...)
}

func attrs(n int, size int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprintf("%suser.a%d", schily, i)] = strings.Repeat("v", size)
	}
	return m
}

// hostile is an archive and the words of the error that it gives in each mode: None, Apply, Overlay; "" for none.
type hostile struct {
	name string
	b    []byte
	want [3]string
}

func hostiles(t testing.TB) []hostile {
	lists := func(e ...string) []byte { return archive(t, e...) }
	return []hostile{
		{"dots in every form", lists("f ./././x 1", "f a/./b/../c 2", "f /../a/d 3", "f //a///e 4"), [3]string{"leaves the root", "leaves the root", "leaves the root"}},
		{"dots that stay inside", lists("f ./././x 1", "f a/./b/../c 2", "f //a///e 4", "d a/..", "d ./"), [3]string{}},
		{"dots behind a symlink are the name's own", lists("d a/b", "l s a/b", "f s/../x 1"), [3]string{}},
		{"absolute dots", lists("f /../../outside/x 1"), all("leaves the root")},
		{"a symlink that points outside is only a symlink", lists("l s /etc/passwd", "l u ../outside/sentinel", "h v u", "d s"), [3]string{}},
		{"write through a symlink to a file", lists("l u ../outside/sentinel", "f u evil"), [3]string{}},
		{"symlink replaced by a directory midway", lists("l s ../outside", "d s", "f s/x 1", "l t s", "f t/y 2"), [3]string{}},
		{"directory replaced by a symlink midway", lists("d s", "f s/x 1", "l s ../outside", "f s/y 2"), all("leaves the root")},
		{"the same, to a place inside", lists("d s", "d t", "f s/x 1", "l s t", "f s/y 2", "f s/z 3"), [3]string{}},
		{"symlink behind a symlink that changes", lists("d a", "l m a", "l s m", "f s/x 1", "l m ../outside", "f s/y 2"), all("leaves the root")},
		{"the link behind becomes a file", lists("d a", "l m a", "l s m", "f s/x 1", "f m 2", "f s/y 3"), [3]string{"not a directory", "", ""}},
		{"hard link to a later entry", lists("h a b", "f b 1"), all("missing or a directory")},
		{"hard link to a symlink that leads outside", lists("l s ../outside/sentinel", "h h s", "f h evil"), [3]string{}},
		{"hard link through dots", lists("f x 1", "h a/b /../x"), all("leaves the root")},
		{"hard link to the root", lists("h x /"), all("target is a directory")},
		{"write into a hard link's name", lists("f a one", "h b a", "f b two", "h c b"), [3]string{}},
		{"whiteout of the root", lists("f .wh..wh.", "f ./.wh..wh..opq"), [3]string{}},
		{"whiteout of dots", lists("f .wh..."), [3]string{"", "whiteout of nothing", "whiteout of nothing"}},
		{"whiteout of a whiteout", lists("f .wh..wh.x", "d .wh..wh.d", "f .wh..wh.d/../../x 1"), all("leaves the root")},
		{"opaque entry as a directory", lists("d a/.wh..wh..opq", "f a/x 1"), [3]string{}},
		{"whiteout of the own entries", lists("d a", "f a/x 1", "f a/.wh.x", "f .wh.a", "f a/y 2"), [3]string{}},
		{"whiteout, entry, whiteout", lists("f .wh.e", "f e 1", "f .wh.e", "l e s", "f .wh.e"), [3]string{}},
		{"whiteout of a parent's symlink", lists("f .wh.in", "f in/x 1"), [3]string{}},
		{"whiteout as a symlink", lists("l .wh.e ../outside", "h .wh.a .wh.e"), [3]string{}},
		{"through a lower layer's escaping symlink", lists("f s/x 1"), [3]string{"", "", "leaves the root"}},
		{"link to a lower layer's escaping symlink", lists("h x s/sentinel"), [3]string{"no target", "no target", "leaves the root"}},
		{"overlayfs's own whiteout over own entries", lists("f e 1", "w e", "d a", "f a/x 1", "w a"), [3]string{}},
		{"bytes, newlines and a name of 255", lists("f \xff\xfe 1", "f a\nb\t\x01 2", "d "+strings.Repeat("\xc3", 255)), [3]string{}},
		{"a name of 256", lists("f x 1", "f "+strings.Repeat("n", 256)+" 1"), all("name too long")},
		{"a parent of 256", lists("f " + strings.Repeat("n", 256) + "/x 1"), all("name too long")},
		{"a path of 4096", lists("f " + strings.Repeat("n/", 2047) + "xx 1"), all("deeper than 512")},
		{"a path of 4097", lists("f " + strings.Repeat("n/", 2048) + "x 1"), all("more than 4096")},
		{"a long path of few parts", lists("f " + strings.Repeat(strings.Repeat("n", 200)+"/", 20) + "x 1"), [3]string{}},
		{"deep by symlinks", lists("f "+strings.Repeat("n/", 400)+"x 1", "l s "+strings.Repeat("n/", 400), "f s/"+strings.Repeat("m/", 400)+"x 1"), all("deeper than 512")},
		{"a long link target", lists("l x " + strings.Repeat("t", 4097)), all("bad link target")},
		{"an empty link target", lists("l x "), all("symbolic link to nothing")},
		{"unknown kind", append(block("x", 'Z', "00000000000\x00", nil), make([]byte, 1024)...), all("unknown type")},
		{"global header", append(append(block("g", 'g', "00000000020\x00", nil), append([]byte(paxRecord("comment", "hi!!")), make([]byte, 496)...)...), make([]byte, 1024)...), [3]string{}},
		{"no name", append(block("", '0', "00000000000\x00", nil), make([]byte, 1024)...), all("leaves the root")},
		{"set-id and sticky bits", one(t, tar.Header{Name: "x", Mode: 0o7777, Uid: 5, Gid: 6}, "su"), [3]string{}},
		{"mode beyond the bits", one(t, tar.Header{Name: "x", Mode: 0o7777777, Uid: 5, Gid: 6}, "su"), [3]string{}},
		{"owner too large", one(t, tar.Header{Name: "x", Uid: math.MaxUint32, Format: tar.FormatPAX}, ""), all("out of range")},
		{"owner negative", withPAX(paxRecord("uid", "-1")), all("out of range")},
		{"size negative", withPAX(paxRecord("size", "-1")), all("read archive")},
		{"size of exabytes", withPAX(paxRecord("size", "9223372036854775807")), all("expands to more")},
		{"time far off", one(t, tar.Header{Name: "x", ModTime: time.Unix(1<<40, 0), Format: tar.FormatPAX}, ""), [3]string{}},
		{"time before the epoch", one(t, tar.Header{Name: "x", ModTime: time.Unix(-1<<40, 5), Format: tar.FormatPAX}, ""), [3]string{}},
		{"name with a zero byte", withPAX(paxRecord("path", "a\x00b")), all("read archive")},
		{"PAX name that leaves", withPAX(paxRecord("path", "../outside/x")), all("leaves the root")},
		{"PAX header that claims 1 GiB", append(block("pax", 'x', "10000000000\x00", nil), make([]byte, 4096)...), all("read archive")},
		{"PAX header of 2 MiB", withPAX(paxRecord("comment", strings.Repeat("c", 2<<20))), all("read archive")},
		{"PAX header just below 1 MiB", withPAX(paxRecord("comment", strings.Repeat("c", 1<<20-600))), [3]string{}},
		{"PAX record with a wrong length", withPAX("999 path=x\n"), all("read archive")},
		{"GNU long name that claims 1 GiB", append(block("././@LongLink", 'L', "10000000000\x00", nil), make([]byte, 4096)...), all("read archive")},
		{"sparse, larger than the limit", withPAX(paxRecord("GNU.sparse.major", "0"), paxRecord("GNU.sparse.minor", "1"), paxRecord("GNU.sparse.size", "4611686018427387904"),
			paxRecord("GNU.sparse.numblocks", "1"), paxRecord("GNU.sparse.map", "0,0")), all("expands to more")},
		{"sparse, blocks that overlap", withPAX(paxRecord("GNU.sparse.major", "0"), paxRecord("GNU.sparse.minor", "1"), paxRecord("GNU.sparse.size", "100"),
			paxRecord("GNU.sparse.numblocks", "2"), paxRecord("GNU.sparse.map", "50,10,40,20")), all("read archive")},
		{"sparse, a map that claims a million parts", withPAX(paxRecord("GNU.sparse.major", "0"), paxRecord("GNU.sparse.minor", "1"), paxRecord("GNU.sparse.size", "100"),
			paxRecord("GNU.sparse.numblocks", "1000000"), paxRecord("GNU.sparse.map", "0,1")), all("read archive")},
		{"sparse, all hole", withPAX(paxRecord("GNU.sparse.major", "0"), paxRecord("GNU.sparse.minor", "1"), paxRecord("GNU.sparse.size", "8388608"),
			paxRecord("GNU.sparse.numblocks", "1"), paxRecord("GNU.sparse.map", "8388608,0")), [3]string{}},
		{"attribute of 100 KiB", one(t, tar.Header{Name: "x", PAXRecords: attrs(1, 100<<10)}, ""), all("set attribute user.a0 of")},
		{"attribute with a long name", withPAX(paxRecord(schily+"user."+strings.Repeat("n", 300), "v")), all("set attribute")},
		{"attribute of no namespace", withPAX(paxRecord(schily+"odd", "v"), paxRecord(schily, "v")), [3]string{}},
		{"capability that is none", withPAX(paxRecord(schily+"security.capability", "x")), all("set attribute security.capability")},
		{"marks of overlayfs", withPAX(paxRecord(schily+"trusted.overlay.opaque", "y"), paxRecord(schily+"trusted.overlay.redirect", "/"), paxRecord(schily+"user.overlay.whiteout", "y")), [3]string{}},
		{"device out of range", withDevice(func(b []byte) { copy(b[329:], "\x80\x00\x00\x01\x00\x00\x00\x00") }), all("out of range")},
		{"fifo with a device's numbers", append(block("x", '6', "00000000000\x00", func(b []byte) { copy(b[329:], "0000005\x000000001\x00") }), make([]byte, 1024)...), [3]string{}},
		{"wrong checksum", func() []byte { b := lists("f x 1"); b[3] ^= 1; return b }(), all("read archive")},
		{"wrong checksum later", func() []byte { b := lists("f x 1", "f y 2"); b[1024+3] ^= 1; return b }(), all("read archive")},
		{"rubbish after the end", append(lists("f x 1"), bytes.Repeat([]byte("rubbish"), 10_000)...), [3]string{}},
		{"an archive after the end", append(lists("f x 1"), lists("f ../outside/x 1")...), [3]string{}},
	}
}

// TestHostile extracts each archive in every mode, with and without workers; everyWay sees that nothing outside the roots changes.
func TestHostile(t *testing.T) {
	needRoot(t)
	for _, c := range hostiles(t) {
		t.Run(c.name, func(t *testing.T) {
			leftOut(t, c.name)
			for mode, err := range everyWay(t, nil, c.b, nil) {
				if Whiteouts(mode) == Overlay && !overlayfs {
					continue
				}
				switch want := c.want[mode]; {
				case want == "" && err != nil:
					t.Errorf("mode %d: %v", mode, err)
				case want != "" && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want)):
					t.Errorf("mode %d: error %v, want Invalid with %q", mode, err, want)
				}
			}
		})
	}
}

func all(words string) [3]string { return [3]string{words, words, words} }

func withDevice(change func([]byte)) []byte {
	return append(block("x", '3', "00000000000\x00", change), make([]byte, 1024)...)
}

// TestEveryKindOverEveryKind extracts two and three entries of one name, with something in between that leads through it.
func TestEveryKindOverEveryKind(t *testing.T) {
	needRoot(t)
	kinds := [][]string{
		{"f n/n 1"}, {"f n/n " + strings.Repeat("big", 200_000)}, {"d n/n"}, {"d n/n", "f n/n/x 1"}, {"f n/n/y 2"}, {"l n/n ../t"}, {"h n/n t/f"},
		{"c n/n"}, {"p n/n"}, {"w n/n"}, {"f n/.wh.n"}, {"d n/n", "f n/n/.wh..wh..opq"}, {"f .wh.n"}, {"f n 3"}, {"l n t"},
	}
	for i, a := range kinds {
		for j, b := range kinds {
			if (i+j)%2 == 1 { // half of the pairs is enough, with a third kind after each
				continue
			}
			c := kinds[(i*7+j*3)%len(kinds)]
			list := append([]string{"d t", "f t/f one"}, a...)
			list = append(append(append(list, b...), "f t/g two"), c...)
			short := strings.ReplaceAll(strings.Join(list, ","), strings.Repeat("big", 200_000), "big")
			w := archive(t, list...)
			for mode, err := range everyWay(t, archive(t, "d n", "f n/n lower", "d m"), w, nil) {
				if err != nil && !errs.Is(err, errs.Invalid) {
					t.Errorf("%s, mode %d: %v", short, mode, err)
				}
			}
			if t.Failed() {
				t.Fatal(short)
			}
		}
	}
}

// TestTruncated cuts an archive at every block, and at one byte beside.
func TestTruncated(t *testing.T) {
	needRoot(t)
	b := archive(t, "d a", "f a/x "+strings.Repeat("x", 3000), "l l a", "f a/big "+strings.Repeat("y", maxChunk+9000), "h h a/x", "f .wh.q", "d z")
	for n := 0; n < len(b); n += 512 {
		if n > 12<<10 && n < 256<<10 { // within the big file every block is like the next
			n += 16 << 10
		}
		for _, cut := range []int{n, n + 1} {
			for _, workers := range []int{1, 3} {
				w := newWitness(t)
				_, err := extract(t, w.root, b[:cut], w.options(Apply, workers))
				if err != nil && !errs.Is(err, errs.Invalid) {
					t.Errorf("cut at %d: %v", cut, err)
				}
				if err == nil && cut%512 != 0 && cut < len(b)-1024 {
					t.Errorf("cut at %d: no error", cut)
				}
				w.check(t)
				os.RemoveAll(w.top)
			}
		}
	}
}

// many generates an archive of n entries without ever holding it: name gives each one's.
func many(n int, h tar.Header, name func(int) string) io.Reader {
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		for i := range n {
			h.Name = name(i)
			if err := tw.WriteHeader(&h); err != nil {
				w.CloseWithError(err) // the reader has gone
				return
			}
		}
		w.CloseWithError(tw.Close())
	}()
	return r
}

// TestManyEntries: an archive can't make an extraction keep much, whether it has many entries or implies many directories.
func TestManyEntries(t *testing.T) {
	dir := tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, Format: tar.FormatPAX}
	long := strings.Repeat(strings.Repeat("n", 250)+"/", 16)
	for _, c := range []struct {
		name, want string
		n          int
		h          tar.Header
		o          Options
		entry      func(int) string
	}{
		{"entries", "more than 3000 entries", 10_000_000, tar.Header{Typeflag: tar.TypeReg}, Options{MaxEntries: 3000}, func(i int) string { return fmt.Sprint(i) }},
		{"implied directories", "more than 3000 entries", 1000, dir, Options{MaxEntries: 3000}, func(i int) string { return fmt.Sprintf("%d/a/b/c/d/e/f", i) }},
		{"long names", "too many directories", 10_000_000, dir, Options{maxHeld: 1 << 20}, func(i int) string { return fmt.Sprintf("%s%d", long, i) }},
	} {
		c.o.Whiteouts, c.o.Owner = Apply, owner()
		r := many(c.n, c.h, c.entry)
		_, err := Extract(t.Context(), t.TempDir(), r, c.o)
		r.(io.Closer).Close()
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestFirstErrorWins: with workers too, the error is that of the first entry in the archive that fails, and no goroutine or
// descriptor stays behind.
func TestFirstErrorWins(t *testing.T) {
	needRoot(t)
	var list []string
	for i := range 300 {
		list = append(list, fmt.Sprintf("f d%d/x%d %d", i%7, i, i))
	}
	bad := func(name string) []byte {
		b := one(t, tar.Header{Name: name, PAXRecords: map[string]string{schily + "security.capability": "bad"}}, "x")
		return b[:len(b)-1024]
	}
	good := archive(t, list...)
	good = good[:len(good)-1024]
	b := append(append(append(append(append([]byte{}, good...), bad("first")...), bad("second")...), good...), archive(t, "f ../x 1")...)
	before := 0
	for i := range 10 {
		if i == 1 {
			before = descriptors(t) // now the runtime has its own
		}
		w := newWitness(t)
		_, err := extract(t, w.root, b, w.options(Apply, 4))
		if err == nil || !strings.Contains(err.Error(), `of "first"`) {
			t.Fatalf("error %v, want the first entry's", err)
		}
		w.check(t)
		os.RemoveAll(w.top)
	}
	if now := descriptors(t); now > before {
		t.Errorf("%d descriptors, %d before", now, before)
	}
}

// descriptors counts this process's open ones.
func descriptors(t testing.TB) (n int) {
	t.Helper()
	for fd := range 1024 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}
