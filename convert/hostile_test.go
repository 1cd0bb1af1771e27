package convert

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// refused reads an archive that must be refused, with nothing left in the spool.
func refused(t *testing.T, c *Converter, in io.Reader, kind errs.Kind, words string) {
	t.Helper()
	spool := t.TempDir()
	_, _, err := c.ReadArchive(t.Context(), in, spool)
	if err == nil || errs.KindOf(err) != kind || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v (%v), want %q (%v)", err, errs.KindOf(err), words, kind)
	}
	if left, _ := os.ReadDir(spool); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
}

// TestHostileArchives has names that lead out, members that are no files, documents that lie.
func TestHostileArchives(t *testing.T) {
	layer := tarOf(t, file{name: "x", body: "y"})
	diff := brig.DigestOf(layer)
	config := file{name: "c.json", body: fmt.Sprintf(`{"rootfs":{"type":"layers","diff_ids":[%q]}}`, diff)}
	saved := func(layer string) file {
		return file{name: "manifest.json", body: fmt.Sprintf(`[{"Config":"c.json","RepoTags":["a:1"],"Layers":[%q]}]`, layer)}
	}
	l := file{name: "l.tar", body: string(layer)}
	index := func(s string) file { return file{name: "index.json", body: s} }
	entry := func(d string) file {
		return index(`{"manifests":[{"mediaType":"` + typeOCIManifest + `","digest":"` + d + `"}]}`)
	}
	blob := func(s string) (file, string) {
		d := brig.DigestOf([]byte(s))
		return file{name: blobPath(d), body: s}, string(d)
	}
	both, bothDigest := blob(`{"schemaVersion":2,"config":{"digest":"` + string(diff) + `"},"config":{},"layers":[]}`)
	cased, casedDigest := blob(`{"schemaVersion":2,"Config":{"digest":"` + string(diff) + `"},"layers":[]}`)
	sized, sizedDigest := blob(fmt.Sprintf(`{"config":{"digest":%q},"layers":[{"digest":%q,"size":-5}]}`, brig.DigestOf([]byte(config.body)), diff))
	longer, longerDigest := blob(fmt.Sprintf(`{"config":{"digest":%q},"layers":[{"digest":%q,"size":5}]}`, brig.DigestOf([]byte(config.body)), diff))
	sha512, sha512Digest := blob(`{"config":{"digest":"sha512:` + strings.Repeat("0", 128) + `"},"layers":[]}`)
	configBlob := file{name: blobPath(brig.DigestOf([]byte(config.body))), body: config.body}
	layerBlob := file{name: blobPath(diff), body: string(layer)}
	for _, c := range []struct {
		name, words string
		files       []file
	}{
		{"layer above the archive", "it has no ../../../../etc/passwd", []file{config, saved("../../../../etc/passwd")}},
		{"layer by an absolute name", "it has no /etc/passwd", []file{config, saved("/etc/passwd")}},
		{"config above the archive", "it has no ../../etc/passwd", []file{{name: "manifest.json", body: `[{"Config":"../../etc/passwd","Layers":[]}]`}}},
		{"layer is a symlink out", "it has no l.tar", []file{config, saved("l.tar"), {name: "l.tar", typ: tar.TypeSymlink, link: "/etc/passwd"}}},
		{"layer is a symlink up and out", "it has no l.tar", []file{config, saved("l.tar"), {name: "l.tar", typ: tar.TypeSymlink, link: "../../../etc/passwd"}}},
		{"layer is a hard link out", "it has no l.tar", []file{config, saved("l.tar"), {name: "l.tar", typ: tar.TypeLink, link: "/etc/passwd"}}},
		{"layer is a device", "it has no l.tar", []file{config, saved("l.tar"), {name: "l.tar", typ: tar.TypeChar}}},
		{"layer is a directory", "it has no l.tar", []file{config, saved("l.tar"), dir("l.tar")}},
		{"layer is a fifo", "it has no l.tar", []file{config, saved("l.tar"), {name: "l.tar", typ: tar.TypeFifo}}},
		{"layer is a loop", "loop of links", []file{config, saved("l.tar"), {name: "l.tar", typ: tar.TypeSymlink, link: "m.tar"}, {name: "m.tar", typ: tar.TypeSymlink, link: "l.tar"}}},
		{"layer is the manifest itself", "layers length mismatch", []file{config, {name: "manifest.json", body: `[{"Config":"c.json","Layers":["manifest.json","manifest.json"]}]`}}},
		{"a chain of links that is too long", "loop of links", append(chain(40), config, saved("link0"))},
		{"no such member", "it has no l.tar", []file{config, saved("l.tar")}},
		{"a list of nothing", "it has no ", []file{{name: "manifest.json", body: `[null]`}}},
		{"not a list", "manifest.json", []file{{name: "manifest.json", body: `{"Config":"c.json"}`}}},
		{"keys twice", "twice", []file{config, l, {name: "manifest.json", body: `[{"Config":"c.json","Config":"d.json","Layers":["l.tar"]}]`}}},
		{"keys in lower case", `must be written "Config"`, []file{config, l, {name: "manifest.json", body: `[{"config":"c.json","Layers":["l.tar"]}]`}}},
		{"byte order mark", "invalid character", []file{config, l, {name: "manifest.json", body: "\ufeff[]"}}},
		{"gigantic manifest.json", "larger than 8388608 bytes", []file{{name: "manifest.json", body: "[" + strings.Repeat(" ", maxDocument) + "]"}}},
		{"gigantic index.json", "larger than 8388608 bytes", []file{index("{" + strings.Repeat(" ", maxDocument) + "}")}},
		{"ten thousand images and one", "more than 10000 images", []file{index(`{"manifests":[` + strings.Repeat(`{},`, maxImages) + `{}]}`)}},
		{"config twice in a manifest", "twice", []file{both, entry(bothDigest)}},
		{"Config in a manifest", `must be written "config"`, []file{cased, entry(casedDigest)}},
		{"impossible size", "impossible size", []file{sized, configBlob, layerBlob, entry(sizedDigest)}},
		{"other size", "10240 bytes, its manifest says 5", []file{longer, configBlob, {name: blobPath(diff), body: string(layer) + strings.Repeat("\x00", 10240-len(layer))}, entry(longerDigest)}},
		{"sha512", "invalid digest", []file{sha512, entry(sha512Digest)}},
		{"path as digest", "invalid digest", []file{entry("sha256:../../../../etc/passwd")}},
		{"index of a blob that lies", "has the digest", []file{{name: blobPath(diffA), body: "{}"}, entry(string(diffA))}},
		{"an archive in an archive", "neither manifest.json nor index.json", []file{{name: "inner.tar", body: string(tarOf(t, config, l, saved("l.tar")))}}},
		{"windows rootfs", "rootfs of type", []file{{name: "c.json", body: `{"rootfs":{"type":"layers+base","diff_ids":[]}}`}, {name: "manifest.json", body: `[{"Config":"c.json","Layers":[]}]`}}},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, New(), bytes.NewReader(tarOf(t, c.files...)), errs.Invalid, c.words) })
	}
}

// chain is link0 to link39, each to the next; the last leads to l.tar.
func chain(n int) (out []file) {
	for i := range n {
		out = append(out, file{name: fmt.Sprintf("link%d", i), typ: tar.TypeSymlink, link: fmt.Sprintf("link%d", i+1)})
	}
	return append(out, file{name: fmt.Sprintf("link%d", n), body: "x"})
}

// TestLegalArchives has what looks hostile and is what dockerd takes: members that are there twice (the last counts), an index with entries
// of unknown kinds, names that climb but stay inside.
func TestLegalArchives(t *testing.T) {
	layer := tarOf(t, file{name: "x", body: "y"})
	img := image(t, []string{"a:1"}, same, layer)
	config := file{name: "c.json", body: string(img.Config)}
	m := file{name: "manifest.json", body: `[{"Config":"./d/../c.json","RepoTags":["a:1"],"Layers":["../l.tar"]}]`}
	l := file{name: "l.tar", body: string(layer)}
	check(t, tarOf(t, file{name: "manifest.json", body: "junk"}, file{name: "l.tar", body: "junk"}, config, l, m), img)
	check(t, tarOf(t, config, m, file{name: "/l.tar", body: string(layer)}, file{name: "dev", typ: tar.TypeChar}, file{name: "../../evil", body: "x"}), img)
	unknown := file{name: "index.json", body: `{"manifests":[{"mediaType":"application/x-evil","digest":"sha256:no"},{"mediaType":"` + typeOCIIndex + `","digest":"` + string(brig.DigestOf([]byte("{}"))) + `"}]}`}
	check(t, tarOf(t, config, m, l, unknown, file{name: blobPath(brig.DigestOf([]byte("{}"))), body: "{}"}), img)
}

// TestTruncatedArchives cuts an archive at each block, and inside of each.
func TestTruncatedArchives(t *testing.T) {
	var b bytes.Buffer
	if err := New().WriteArchive(t.Context(), &b, []brig.ArchiveImage{image(t, []string{"a:1"}, same, tarOf(t, file{name: "x", body: "y"}))}); err != nil {
		t.Fatal(err)
	}
	whole := b.Len() - 1024 // without the two blocks of zeros at the end, archives are whole too
	for n := 0; n < whole; n += 256 {
		spool := t.TempDir()
		images, done, err := New().ReadArchive(t.Context(), bytes.NewReader(b.Bytes()[:n]), spool)
		if err == nil { // cut after all that the image needs
			for _, l := range images[0].Layers {
				read(t, l)
			}
			done()
		} else if !errs.Is(err, errs.Invalid) {
			t.Errorf("cut at %d: %v (%v)", n, err, errs.KindOf(err))
		}
		if left, _ := os.ReadDir(spool); len(left) != 0 {
			t.Errorf("cut at %d: left in the spool: %v", n, left)
		}
	}
}

// zeros is n bytes of zero, compressed by a program.
func zeros(t *testing.T, n int64, argv ...string) []byte {
	t.Helper()
	if argv[0] != "gzip" {
		return run(t, make([]byte, n), argv...)
	}
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	io.CopyN(z, zero{}, n)
	z.Close()
	return b.Bytes()
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestBombs: what a few kilobytes unpack to is bounded, for archives and for ACIs, and takes no memory.
func TestBombs(t *testing.T) {
	const n, limit = 96 << 20, 16 << 20
	head := tarOf(t, file{name: "x", body: "y"})[:1024] // no end
	for name, bomb := range map[string][]byte{
		"gzip": append(gz(head), zeros(t, n, "gzip")...), "xz": append(run(t, head, "xz"), zeros(t, n, "xz", "-0")...),
		"zstd": append(zst(t, head), run(t, make([]byte, n), "zstd", "-q")...), "bzip2": append(run(t, head, "bzip2"), zeros(t, n, "bzip2")...),
	} {
		t.Run(name, func(t *testing.T) {
			c := New()
			c.maxBytes = limit
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			refused(t, c, bytes.NewReader(bomb), errs.Invalid, "the archive is larger than 16777216 bytes")
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > limit+(8<<20) {
				t.Errorf("%d bytes of memory for a bomb of %d", used, len(bomb))
			}
			_, err := c.ReadACI(t.Context(), bytes.NewReader(bomb), t.TempDir())
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("as an ACI: %v", err)
			}
		})
	}
}

// TestGreedyHeaders have a few bytes ask for gibibytes of memory.
func TestGreedyHeaders(t *testing.T) {
	x := run(t, []byte("some bytes"), "xz", "-0")
	// xz-file-format 3.1 and 5.3.1: after 12 bytes the block's header: size, flags, filter 0x21 with 1 byte of properties, the dictionary's size, CRC32.
	at := bytes.Index(x[12:], []byte{0x21, 0x01}) + 12 + 2
	size := (int(x[12]) + 1) * 4
	x[at] = 40 // 4 GiB - 1
	binary.LittleEndian.PutUint32(x[12+size-4:], crc32.ChecksumIEEE(x[12:12+size-4]))
	for name, in := range map[string][]byte{
		"xz":   x,
		"zstd": {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf0, 0x01, 0x00, 0x00}, // RFC 8878, 3.1.1.1.2: a window of 2^40 bytes
	} {
		if _, err := decompress(t, New(), bytes.NewReader(in), ""); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v (%v)", name, err, errs.KindOf(err))
		} else {
			t.Log(err)
		}
	}
}
