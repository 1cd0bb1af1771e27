package convert

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func isKind(t *testing.T, err error, kinds ...errs.Kind) {
	t.Helper()
	for _, k := range kinds {
		if errs.Is(err, k) {
			return
		}
	}
	t.Errorf("%v: %v, want one of %v", errs.KindOf(err), err, kinds)
}

// FuzzImageConfig: a config that is accepted has valid diffIDs, and makes an appc manifest that is valid by the schema, if its reference is.
func FuzzImageConfig(f *testing.F) {
	f.Add([]byte(`{"config":{"Cmd":"x","ExposedPorts":{"1-65535":{}},"Volumes":{"":{}},"Env":["=",""]},`+rootfs+`}`), "busybox:1")
	f.Add([]byte(`{"os":"freebsd","architecture":"arm64","config":null,`+rootfs+`}`), "[::1]:5/x@"+string(diffA))
	f.Add([]byte(`{"author":"a","created":"2020-01-01T00:00:00Z","config":{"User":":::","WorkingDir":"../.."},`+rootfs+`}`), "")
	f.Add([]byte(`{"history":[{"created":"2020-01-01T00:00:00Z"}],"config":{"Labels":{"a":"\ud800"},"Healthcheck":{"Interval":-1}},`+rootfs+`}`), "x@"+string(diffA))
	f.Fuzz(func(t *testing.T, config []byte, ref string) {
		c := New()
		doc, err := c.ImageConfig(config)
		if err != nil {
			isKind(t, err, errs.Invalid)
			return
		}
		for _, d := range doc.Diffs {
			if _, err := brig.ParseDigest(string(d)); err != nil {
				t.Error(err)
			}
		}
		if again, err := c.ImageConfig(config); err != nil || !reflect.DeepEqual(doc, again) {
			t.Errorf("%+v, then %+v, %v", doc, again, err)
		}
		name, b, err := c.ACIManifest(config, ref, diffA)
		if err != nil {
			if _, rerr := parseSource(ref); rerr == nil {
				t.Errorf("a valid config gave no manifest: %v", err)
			}
			return
		}
		if name == "" {
			t.Error("no name")
		}
		valid(t, b)
		if info, err := c.ACIInfo(b); err != nil || info.Name != name {
			t.Errorf("the manifest is %+v, %v, want the name %s", info, err, name)
		}
	})
}

// FuzzReference: every reference that is accepted has an appc name.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"a", "a/b:c", "localhost/x", "docker.io/x@" + string(diffA), "x-", "UP:5000/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		src, err := parseSource(s)
		if err != nil || s == "" {
			return
		}
		if name, err := aciName(src, diffA); err != nil || name == "" {
			t.Errorf("%q: %q, %v", s, name, err)
		}
		if short, err := familiar(s); err == nil {
			if again, err := familiar(short); err != nil || again != short {
				t.Errorf("%q is %q, then %q, %v", s, short, again, err)
			}
		}
	})
}

// spoolIn makes a folder "spool" that is the only thing in a new one.
func spoolIn(f *testing.F) string {
	spool := filepath.Join(f.TempDir(), "spool")
	if err := os.Mkdir(spool, 0o700); err != nil {
		f.Fatal(err)
	}
	return spool
}

// loaded reads an archive, and checks that nothing comes to be beside the spool nor stays in it, and what every accepted archive must be like.
// What can be written again must read the same.
func loaded(t *testing.T, c *Converter, spool string, b []byte) {
	t.Helper()
	images, done, err := c.ReadArchive(t.Context(), bytes.NewReader(b), spool)
	holds := func(archives int) {
		for dir, want := range map[string]int{filepath.Dir(spool): 1, spool: archives} {
			if left, err := os.ReadDir(dir); err != nil || len(left) != want {
				t.Errorf("%s has %v, %v", dir, left, err)
			}
		}
	}
	if err != nil {
		holds(0)
		isKind(t, err, errs.Invalid, errs.NotImplemented)
		return
	}
	holds(1)
	defer func() {
		if err := done(); err != nil {
			t.Error(err)
		}
		holds(0)
	}()
	for _, img := range images {
		archiveImageOK(t, c, img)
	}
	var out bytes.Buffer
	if err := c.WriteArchive(t.Context(), &out, images); err != nil {
		isKind(t, err, errs.Invalid, errs.NotImplemented)
		return
	}
	again, doneAgain, err := c.ReadArchive(t.Context(), &out, spool)
	if err != nil {
		t.Fatalf("what was written can't be read: %v", err)
	}
	defer doneAgain()
	ids := map[brig.Digest]bool{}
	for _, img := range again {
		ids[brig.DigestOf(img.Config)] = true
	}
	for _, img := range images {
		if !ids[brig.DigestOf(img.Config)] {
			t.Errorf("image %s was lost on the way", brig.DigestOf(img.Config))
		}
	}
}

func archiveImageOK(t *testing.T, c *Converter, img brig.ArchiveImage) {
	t.Helper()
	doc, err := c.ImageConfig(img.Config)
	if err != nil {
		isKind(t, err, errs.Invalid) // a date, say; load finds out
	} else if len(doc.Diffs) != len(img.Layers) {
		t.Errorf("%d diffIDs, %d layers", len(doc.Diffs), len(img.Layers))
	}
	for _, ref := range img.Refs {
		if short, err := familiar(ref); err != nil || short != ref {
			t.Errorf("reference %q is %q, %v", ref, short, err)
		}
	}
	for _, l := range img.Layers {
		if _, err := brig.ParseDigest(string(l.Diff)); err != nil {
			t.Error(err)
		}
		if b := read(t, l); int64(len(b)) != l.Blob.Size || brig.DigestOf(b) != l.Blob.Digest {
			t.Errorf("layer of %d bytes, %d and %s were said", len(b), l.Blob.Size, l.Blob.Digest)
		}
	}
}

// FuzzArchive reads tars.
func FuzzArchive(f *testing.F) {
	img := image(f, []string{"a:1"}, same, tarOf(f, file{name: "x", body: "y"}))
	var b bytes.Buffer
	if err := New().WriteArchive(f.Context(), &b, []brig.ArchiveImage{img}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(tarOf(f, file{name: "manifest.json", body: `[{"Config":"c","Layers":["l"]}]`}, file{name: "c", typ: tar.TypeSymlink, link: "../c"}))
	f.Add(tarOf(f, file{name: "index.json", body: `{"manifests":[{"mediaType":"` + typeOCIIndex + `","digest":"` + string(diffA) + `"}]}`}))
	c, spool := &Converter{}, spoolIn(f)
	f.Fuzz(func(t *testing.T, b []byte) { loaded(t, c, spool, b) })
}

// FuzzLayout reads archives of documents whose digests are right: D1 to D5 stand for those of the five files in each of them.
func FuzzLayout(f *testing.F) {
	layer := string(tarOf(f, file{name: "x", body: "y"}))
	config := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["D1"]}}`
	manifest := `{"schemaVersion":2,"config":{"digest":"D2"},"layers":[{"digest":"D1"}]}`
	inner := `{"manifests":[{"mediaType":"` + typeOCIManifest + `","digest":"D3","platform":{"os":"linux","architecture":"none"}}]}`
	f.Add(layer, config, manifest, inner, `{"manifests":[{"digest":"D3","annotations":{"org.opencontainers.image.ref.name":"a:1"}},{"mediaType":"`+typeOCIIndex+`","digest":"D4"}]}`, "")
	f.Add(layer, config, manifest, `{"manifests":[{"mediaType":"`+typeOCIIndex+`","digest":"D3"}]}`, "", `[{"Config":"blobs/sha256/H2","RepoTags":["a:1"],"Layers":["blobs/sha256/H1"]}]`)
	f.Add(layer, config, `{"config":{"digest":"D2"},"layers":[{"digest":"D1"},{"digest":"D1"}]}`, inner, `{"manifests":[{"digest":"D3"}]}`, `[{"Config":"x","Layers":[]},null]`)
	c, spool := &Converter{}, spoolIn(f)
	f.Fuzz(func(t *testing.T, layer, config, manifest, inner, index, saved string) {
		var files []file
		fill := strings.NewReplacer()
		var pairs []string
		for i, body := range []string{layer, config, manifest, inner} {
			if i > 0 {
				body = fill.Replace(body)
			}
			d := brig.DigestOf([]byte(body))
			n := string(rune('1' + i))
			pairs = append(pairs, "D"+n, string(d), "H"+n, d.Hex())
			fill = strings.NewReplacer(pairs...)
			files = append(files, file{name: blobPath(d), body: body})
		}
		for name, body := range map[string]string{"index.json": index, "manifest.json": saved} {
			if body != "" {
				files = append(files, file{name: name, body: fill.Replace(body)})
			}
		}
		loaded(t, c, spool, tarOf(t, files...))
	})
}

// FuzzACIManifest: what is accepted is the same when it is written anew by the schema, and has a valid name.
func FuzzACIManifest(f *testing.F) {
	f.Add([]byte(plainACI))
	f.Add([]byte(`{"acKind":"ImageManifest","acVersion":"0.8.1","name":"a.b/c","dependencies":[{"imageName":"x","imageID":"sha512-00","labels":[{"name":"version","value":"1"}]}],"pathWhitelist":["/../x"]}`))
	f.Add([]byte(`{"acKind":"ImageManifest","acVersion":"0.8.11","name":"a","app":{"exec":[],"user":"0","group":"0","eventHandlers":[{"name":"pre-start","exec":["/x"]}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		im, err := parseACIManifest(b)
		if err != nil {
			isKind(t, err, errs.Invalid)
			return
		}
		info, err := New().ACIInfo(b)
		if err != nil || info.Name == "" || info.Name != im.Name.String() || len(info.Dependencies) != len(im.Dependencies) {
			t.Fatalf("%+v, %v", info, err)
		}
		out, err := json.Marshal(im)
		if err != nil {
			t.Fatalf("accepted, but can't be written: %v", err)
		}
		if again, err := New().ACIInfo(out); err != nil || !reflect.DeepEqual(again, info) {
			t.Errorf("%+v, then %+v, %v", info, again, err)
		}
	})
}

// FuzzDecompress: bytes that are broken are Invalid and nothing else, what comes out is the same every time, and what is not compressed comes
// as it is.
func FuzzDecompress(f *testing.F) {
	text := []byte("some bytes that are compressed in one way or another, some bytes")
	for _, b := range [][]byte{text, gz(text), gz(text, nil, text), zst(f, text), append([]byte{0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9}, zst(f, text)...), []byte("BZh9"), {0x28, 0xb5, 0x2f, 0xfd, 0xa4, 0xff, 0xff, 0xff, 0xff}} {
		f.Add(b)
	}
	f.Add(run(f, text, "bzip2"))
	c := &Converter{} // no programs: xz and igzip are not what is tested here
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := plainOf(t.Context(), c, b)
		if err != nil {
			isKind(t, err, errs.Invalid, errs.NotImplemented)
		}
		again, err2 := plainOf(t.Context(), c, b)
		if !bytes.Equal(first, again) || (err == nil) != (err2 == nil) {
			t.Errorf("%d bytes, %v; then %d, %v", len(first), err, len(again), err2)
		}
		packed := len(b) >= 2 && (b[0] == 0x1f || b[0] == 0x28 || b[0]&0xf0 == 0x50 || b[0] == 'B' || b[0] == 0xfd)
		if !packed && (err != nil || !bytes.Equal(first, b)) {
			t.Errorf("%q is %q, %v", b, first, err)
		}
	})
}

// plainOf reads at most a mebibyte.
func plainOf(ctx context.Context, c *Converter, b []byte) ([]byte, error) {
	r, err := c.Decompress(ctx, bytes.NewReader(b), "")
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, 1<<20))
}
