package convert

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// file is one entry of a tar that a test makes.
type file struct {
	name, body string
	typ        byte // 0: a regular file
	link       string
	mode       int64 // 0: 0644
	uid, gid   int
}

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Typeflag: f.typ, Linkname: f.link, Size: int64(len(f.body)), Mode: f.mode, Uid: f.uid, Gid: f.gid}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == tar.TypeChar {
			h.Devmajor, h.Devminor = 1, 3
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, f.body)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func opener(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// image makes an image of layer tars, each stored as pack gives it.
func image(t testing.TB, refs []string, pack func([]byte) []byte, layers ...[]byte) brig.ArchiveImage {
	t.Helper()
	img := brig.ArchiveImage{Refs: refs}
	var diffs []brig.Digest
	for _, l := range layers {
		stored := pack(l)
		diffs = append(diffs, brig.DigestOf(l))
		img.Layers = append(img.Layers, brig.ArchiveLayer{Blob: brig.Descriptor{Digest: brig.DigestOf(stored), Size: int64(len(stored))}, Diff: brig.DigestOf(l), Open: opener(stored)})
	}
	list, _ := json.Marshal(diffs)
	img.Config = []byte(fmt.Sprintf(`{"os":"linux","architecture":"amd64","config":{"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":%s}}`, list))
	return img
}

func same(b []byte) []byte { return b }

// check reads an archive and compares it with the images it shall hold.
func check(t *testing.T, in []byte, want ...brig.ArchiveImage) []brig.ArchiveImage {
	t.Helper()
	spool := t.TempDir()
	got, done, err := New().ReadArchive(t.Context(), bytes.NewReader(in), spool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := done(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(spool); len(left) != 0 {
			t.Errorf("left in the spool: %v", left)
		}
	})
	if len(got) != len(want) {
		t.Fatalf("%d images, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		if !bytes.Equal(g.Config, w.Config) || !reflect.DeepEqual(g.Refs, w.Refs) || len(g.Layers) != len(w.Layers) {
			t.Fatalf("image %d: config %s, refs %v, %d layers", i, g.Config, g.Refs, len(g.Layers))
		}
		for j := range g.Layers {
			if a, b := read(t, g.Layers[j]), read(t, w.Layers[j]); !bytes.Equal(a, b) || g.Layers[j].Diff != w.Layers[j].Diff {
				t.Errorf("image %d layer %d: %d bytes, want %d; diff %s", i, j, len(a), len(b), g.Layers[j].Diff)
			}
			// Only what is large has a file of its own, and that has nothing else in it.
			if f := g.Layers[j].File; (f != "") != (g.Layers[j].Blob.Size >= ownFile) {
				t.Errorf("image %d layer %d of %d bytes has the file %q", i, j, g.Layers[j].Blob.Size, f)
			} else if f != "" {
				if b, err := os.ReadFile(f); err != nil || brig.DigestOf(b) != g.Layers[j].Blob.Digest {
					t.Errorf("image %d layer %d: its file has %d bytes, %v", i, j, len(b), err)
				}
			}
		}
	}
	return got
}

func read(t *testing.T, l brig.ArchiveLayer) []byte {
	t.Helper()
	r, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestArchiveRoundTrip(t *testing.T) {
	one, two := tarOf(t, file{name: "one", body: "1"}), tarOf(t, file{name: "two", body: "2"})
	a := image(t, []string{"crew/a:1", "localhost:5000/a:latest"}, func(b []byte) []byte { return gz(b) }, one, two)
	b := image(t, nil, same, one, tarOf(t, file{name: "big", body: strings.Repeat("big", ownFile)}), one)
	c := image(t, []string{"zst:1"}, func(b []byte) []byte { return zst(t, b) }, two)
	images := []brig.ArchiveImage{a, b, c}
	var w, again bytes.Buffer
	for _, out := range []*bytes.Buffer{&w, &again} {
		if err := New().WriteArchive(t.Context(), out, images); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(w.Bytes(), again.Bytes()) {
		t.Error("the same images gave different bytes")
	}
	got := check(t, w.Bytes(), images...)
	for i, g := range got {
		if g.Manifest == nil || g.Layers[0].Blob.Digest != images[i].Layers[0].Blob.Digest {
			t.Errorf("image %d: manifest %s, blob %v", i, g.Manifest, g.Layers[0].Blob)
		}
	}
	// What was read is written again byte by byte, with the manifests it came with.
	again.Reset()
	if err := New().WriteArchive(t.Context(), &again, got); err != nil || !bytes.Equal(w.Bytes(), again.Bytes()) {
		t.Errorf("written again it differs: %v", err)
	}
	for name, outer := range map[string][]byte{"gzip": gz(w.Bytes()), "zstd": zst(t, w.Bytes()), "xz": run(t, w.Bytes(), "xz", "-0")} {
		t.Run(name, func(t *testing.T) { check(t, outer, images...) })
	}
}

// TestArchiveLayouts reads what older dockers and other tools write.
func TestArchiveLayouts(t *testing.T) {
	one, two := tarOf(t, file{name: "one", body: "1"}), tarOf(t, file{name: "two", body: "2"})
	img := image(t, []string{"a:1"}, same, one, two)
	bare := img
	bare.Refs = nil
	config := brig.DigestOf(img.Config).Hex() + ".json"
	list := func(tags string) string {
		return `[{"Config":"` + config + `","RepoTags":` + tags + `,"Layers":["l1/layer.tar","l2/layer.tar"]}]`
	}
	old := []file{{name: config, body: string(img.Config)}, {name: "l1/VERSION", body: "1.0"}, {name: "l1/json", body: "{}"}, {name: "l1/layer.tar", body: string(one)}}
	l2 := file{name: "l2/layer.tar", body: string(two)}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q},"layers":[{"digest":%q},{"digest":%q}]}`, brig.DigestOf(img.Config), brig.DigestOf(one), brig.DigestOf(two))
	blobs := []file{{name: blobPath(brig.DigestOf([]byte(manifest))), body: manifest}, {name: blobPath(brig.DigestOf(img.Config)), body: string(img.Config)},
		{name: blobPath(brig.DigestOf(one)), body: string(one)}, {name: blobPath(brig.DigestOf(two)), body: string(two)}}
	index := func(annotations string) file {
		return file{name: "index.json", body: fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"annotations":%s}]}`, typeOCIManifest, brig.DigestOf([]byte(manifest)), annotations)}
	}
	inner := fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":%q,"platform":{"os":"linux","architecture":"none"}},{"mediaType":%q,"digest":%q}]}`,
		typeOCIManifest, diffA, typeOCIManifest, brig.DigestOf([]byte(manifest)))
	nested := []file{{name: blobPath(brig.DigestOf([]byte(inner))), body: inner},
		{name: "index.json", body: fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":%q,"annotations":{"io.containerd.image.name":"docker.io/library/a:1"}}]}`, typeOCIIndex, brig.DigestOf([]byte(inner)))}}
	tests := []struct {
		name  string
		files []file
		want  brig.ArchiveImage
	}{
		{"docker 1.10", append(old, l2, file{name: "manifest.json", body: list(`["a:1"]`)}, file{name: "repositories", body: "{}"}), img},
		{"names with ./", append(old, file{name: "./l2/layer.tar", body: string(two)}, file{name: "./manifest.json", body: list(`["docker.io/library/a:1"]`)}), img},
		{"without tags", append(old, l2, file{name: "manifest.json", body: list(`null`)}), bare},
		{"layers as symlinks", append(old, file{name: "x/layer.tar", body: string(two)}, file{name: "l2/layer.tar", typ: tar.TypeSymlink, link: "../x/layer.tar"}, file{name: "manifest.json", body: list(`["a:1"]`)}), img},
		{"OCI with a full name", append(blobs, index(`{"org.opencontainers.image.ref.name":"a:1"}`)), img},
		{"OCI with a tag alone", append(blobs, index(`{"org.opencontainers.image.ref.name":"1"}`)), bare},
		{"OCI with an inner index", append(blobs, nested...), img},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { check(t, tarOf(t, tt.files...), tt.want) })
	}
}

func TestBadArchives(t *testing.T) {
	config := file{name: "c.json", body: `{` + rootfs + `}`}
	m := func(s string) file { return file{name: "manifest.json", body: s} }
	ghost := blobPath(diffA)
	tests := []struct {
		name, want string
		kind       errs.Kind
		in         []byte
	}{
		{"empty", "neither manifest.json nor index.json", errs.Invalid, nil},
		{"no tar", "read archive", errs.Invalid, bytes.Repeat([]byte("x"), 2000)},
		{"some other tar", "neither", errs.Invalid, tarOf(t, config)},
		{"before 1.10", "older than 1.10", errs.NotImplemented, tarOf(t, file{name: "repositories", body: "{}"})},
		{"no config", "it has no c.json", errs.Invalid, tarOf(t, m(`[{"Config":"c.json"}]`))},
		{"fewer layers than diffs", "layers length mismatch: expected 2, got 1", errs.Invalid, tarOf(t, config, m(`[{"Config":"c.json","Layers":["c.json"]}]`))},
		{"no layer", "it has no ../../etc/passwd", errs.Invalid, tarOf(t, config, m(`[{"Config":"c.json","Layers":["../../etc/passwd","c.json"]}]`))},
		{"links in a loop", "loop of links", errs.Invalid, tarOf(t, file{name: "c.json", typ: tar.TypeSymlink, link: "c.json"}, m(`[{"Config":"c.json"}]`))},
		{"lying blob", "has the digest", errs.Invalid, tarOf(t, file{name: ghost, body: "x"}, m(`[{"Config":"`+ghost+`"}]`))},
		{"lying layer", "has the digest", errs.Invalid, tarOf(t, config, file{name: ghost, body: "x"}, m(`[{"Config":"c.json","Layers":["`+ghost+`","c.json"]}]`))},
		{"bad tag", "invalid tag", errs.Invalid, tarOf(t, config, m(`[{"Config":"c.json","RepoTags":["A B"]}]`))},
		{"not JSON", "manifest.json", errs.Invalid, tarOf(t, m(`{`))},
		{"index to nothing", "invalid archive: it has no blobs/sha256", errs.Invalid, tarOf(t, file{name: "index.json", body: `{"manifests":[{"digest":"` + string(diffA) + `"}]}`})},
		{"truncated", "read archive", errs.Invalid, tarOf(t, file{name: "x", body: strings.Repeat("x", 5000)})[:2000]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spool := t.TempDir()
			_, _, err := New().ReadArchive(t.Context(), bytes.NewReader(tt.in), spool)
			if err == nil || errs.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v (%v)", err, errs.KindOf(err))
			}
			if left, _ := os.ReadDir(spool); len(left) != 0 {
				t.Errorf("left in the spool: %v", left)
			}
		})
	}
}

func TestWriteArchiveRefuses(t *testing.T) {
	good := image(t, []string{"a:1"}, same, tarOf(t))
	short, lying, refs := good, good, good
	short.Layers = nil
	lying.Layers = []brig.ArchiveLayer{good.Layers[0]}
	lying.Layers[0].Blob.Digest = diffA
	refs.Refs = []string{"A B"}
	for name, img := range map[string]brig.ArchiveImage{"short": short, "lying": lying, "refs": refs, "no config": {Config: []byte("x")}} {
		if err := New().WriteArchive(t.Context(), io.Discard, []brig.ArchiveImage{img}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSkopeo has skopeo read what WriteArchive writes, both ways, and reads what skopeo writes.
func TestSkopeo(t *testing.T) {
	layer := tarOf(t, file{name: "hello", body: "world"})
	dir := t.TempDir()
	for name, pack := range map[string]func([]byte) []byte{"plain": same, "gzip": func(b []byte) []byte { return gz(b) }, "zstd": func(b []byte) []byte { return zst(t, b) }} {
		t.Run(name, func(t *testing.T) {
			img := image(t, []string{"crew/app:1"}, pack, layer)
			path := filepath.Join(dir, name+".tar")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := New().WriteArchive(t.Context(), f, []brig.ArchiveImage{img}); err != nil {
				t.Fatal(err)
			}
			for _, from := range []string{"docker-archive:" + path, "oci-archive:" + path} {
				out := run(t, nil, "skopeo", "inspect", "--config", "--raw", from)
				if !bytes.Equal(bytes.TrimSpace(out), img.Config) {
					t.Errorf("%s: skopeo read the config\n%s", from, out)
				}
				for _, to := range []string{"docker-archive", "oci-archive"} {
					if name == "zstd" && strings.HasPrefix(from, "oci") && to == "docker-archive" {
						continue // skopeo itself refuses this one
					}
					copied := filepath.Join(t.TempDir(), "copy.tar")
					run(t, nil, "skopeo", "--insecure-policy", "copy", from, to+":"+copied+":crew/app:1")
					b, err := os.ReadFile(copied)
					if err != nil {
						t.Fatal(err)
					}
					got, done, err := New().ReadArchive(t.Context(), bytes.NewReader(b), dir)
					if err != nil {
						t.Fatalf("%s of %s: %v", to, from, err)
					}
					defer done()
					plain, err := decompress(t, New(), bytes.NewReader(read(t, got[0].Layers[0])), "")
					if err != nil || !bytes.Equal(plain, layer) || got[0].Refs[0] != "crew/app:1" {
						t.Errorf("%s of %s: refs %v, %v", to, from, got[0].Refs, err)
					}
				}
			}
		})
	}
}
