package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func (d *dock) load1(t *testing.T, b []byte) ([]string, error) {
	t.Helper()
	var lines []string
	err := d.Load(t.Context(), bytes.NewReader(b), "", func(p brig.Progress) {
		if p.Status == "Loading layer" {
			p.Current, p.Total = 0, 0
			if s := line(p); !slices.Contains(lines, s) { // the layers' bars move at the same time
				lines = append(lines, s)
			}
			return
		}
		lines = append(lines, line(p))
	})
	return lines, err
}

// settled sorts each run of lines about layers and drops repeated ones, for layers are loaded side by side.
func settled(lines []string) []string {
	var out []string
	from := 0
	for _, s := range lines {
		if strings.HasSuffix(s, "Loading layer") {
			out = append(out, s)
			slices.Sort(out[from:])
			out = slices.Compact(out)
		} else {
			out = append(out, s)
			from = len(out)
		}
	}
	return out
}

func (d *dock) save1(t *testing.T, refs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := d.Save(t.Context(), refs, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestSaveLoad moves images to another store: they arrive with the same IDs, names, layers and bytes.
func TestSaveLoad(t *testing.T) {
	d := newDock(t)
	a := d.publish("a:1", "base", "one")
	b := d.publish("b:1", "base", "two")
	d.mustPull(t, "a:1", "b:1")
	if err := d.ImageTag(t.Context(), "a:1", "a", "2"); err != nil {
		t.Fatal(err)
	}
	diff := func(s string) string { return shortDigest(brig.DigestOf([]byte(s))) }
	for _, c := range []struct {
		name  string
		saved []string
		want  []string // of the report into an empty store
	}{
		{"tag", []string{"a:1"}, []string{diff("base") + ": Loading layer", diff("one") + ": Loading layer", "Loaded image: a:1"}},
		{"repository: all tags", []string{"a"}, []string{diff("base") + ": Loading layer", diff("one") + ": Loading layer", "Loaded image: a:1", "Loaded image: a:2"}},
		{"ID", []string{string(a)}, []string{diff("base") + ": Loading layer", diff("one") + ": Loading layer", "Loaded image ID: " + string(a)}},
		{"short ID", []string{shortDigest(b)}, []string{diff("base") + ": Loading layer", diff("two") + ": Loading layer", "Loaded image ID: " + string(b)}},
		{"several, doubled", []string{"b:1", "a:2", "a:2", shortDigest(a)}, []string{diff("base") + ": Loading layer", diff("two") + ": Loading layer", "Loaded image: b:1",
			diff("one") + ": Loading layer", "Loaded image: a:2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			archive := d.save1(t, c.saved...)
			e := newDock(t)
			lines, err := e.load1(t, archive)
			if err != nil || strings.Join(settled(lines), "\n") != strings.Join(settled(c.want), "\n") {
				t.Errorf("report %q, %v\nwant %q", lines, err, c.want)
			}
			if again, err := e.load1(t, archive); err != nil || strings.Contains(strings.Join(again, "\n"), "Loading layer") {
				t.Errorf("the second time: %q, %v", again, err)
			}
			if back := e.save1(t, c.saved...); !bytes.Equal(back, archive) {
				t.Errorf("saved again it differs:\n%s\n%s", archive, back)
			}
			list, _ := e.ImageList(t.Context())
			for _, info := range list {
				if _, err := e.ImageRemove(t.Context(), string(info.ID), true, false); err != nil {
					t.Error(err)
				}
			}
			e.clear(t)
		})
	}
	for ref, want := range map[string]string{"nosuch": "No such image: nosuch", "a:9": "reference does not exist", "sha256:1234": "No such image: sha256:1234"} {
		var out bytes.Buffer
		if err := d.Save(t.Context(), []string{"a:1", ref}, &out); !errs.Is(err, errs.NotFound) || err.Error() != want || out.Len() != 0 {
			t.Errorf("save %s: %v, %d bytes", ref, err, out.Len())
		}
	}
}

// TestLoadPlain loads layers without digests, as old archives have them, whose bytes are not compressed.
func TestLoadPlain(t *testing.T) {
	d := newDock(t)
	d.publish("a:1", "base", "one")
	d.mustPull(t, "a:1")
	var a jsonArchive
	if err := json.Unmarshal(d.save1(t, "a:1"), &a); err != nil {
		t.Fatal(err)
	}
	a[0].Manifest = nil
	for n, content := range []string{"base", "one"} {
		a[0].Layers[n].Bytes, a[0].Layers[n].Blob = []byte(content), brig.Descriptor{MediaType: "plain"}
	}
	b, _ := json.Marshal(a)
	e := newDock(t)
	if _, err := e.load1(t, b); err != nil {
		t.Fatal(err)
	}
	info, err := e.ImageGet(t.Context(), "a:1")
	if err != nil || info.Layers[0].Blob.Digest != brig.DigestOf([]byte("base")) || info.Layers[0].Blob.Size != 4 || info.Manifest != "" || len(info.Digests) != 0 {
		t.Errorf("image %+v, %v", info, err)
	}
	// The same image pulled: its layers are there, with other bytes.
	e.registry.remotes, e.registry.bytes = d.registry.remotes, d.registry.bytes
	if _, err := e.pull(t.Context(), "a:1"); err != nil {
		t.Fatal(err)
	}
	d.publish("b:1", "base", "two")
	e.mustPull(t, "b:1")
	if info, err = e.ImageGet(t.Context(), "b:1"); err != nil || info.Layers[0].Blob.Digest != brig.DigestOf([]byte("base")) {
		t.Errorf("image %+v, %v", info, err)
	}
	if err := json.Unmarshal(e.save1(t, "b:1"), &a); err != nil || a[0].Manifest != nil {
		t.Errorf("a manifest that does not describe the bytes is saved: %s, %v", a[0].Manifest, err)
	}
	for _, ref := range []string{"a:1", "b:1"} {
		if _, err := e.ImageRemove(t.Context(), ref, false, false); err != nil {
			t.Error(err)
		}
	}
	e.clear(t)
}

func TestLoadMovesName(t *testing.T) {
	d := newDock(t)
	old := d.publish("a:1", "base", "one")
	d.mustPull(t, "a:1")
	e := newDock(t)
	e.publish("a:1", "base", "two")
	e.mustPull(t, "a:1")
	lines, err := d.load1(t, e.save1(t, "a:1"))
	want := "The image a:1 already exists, renaming the old one with ID " + string(old) + " to empty string"
	if err != nil || len(lines) < 2 || lines[len(lines)-2] != want || lines[len(lines)-1] != "Loaded image: a:1" {
		t.Errorf("report %q, %v", lines, err)
	}
}

// TestLoadFails has archives that don't hold together, and a client that goes away: nothing stays.
func TestLoadFails(t *testing.T) {
	d := newDock(t)
	d.publish("a:1", "base", "one")
	d.mustPull(t, "a:1")
	good := d.save1(t, "a:1")
	for _, c := range []struct {
		name  string
		spoil func(a jsonArchive, e *dock)
		err   string
	}{
		{"a layer's bytes", func(a jsonArchive, _ *dock) { a[0].Layers[1].Bytes[20] ^= 1 }, "verification failed"},
		{"a layer short", func(a jsonArchive, _ *dock) { a[0].Layers[1].Bytes = a[0].Layers[1].Bytes[:9] }, "EOF"},
		{"too few layers", func(a jsonArchive, _ *dock) { a[0].Layers = a[0].Layers[:1] }, "layers length mismatch: expected 2, got 1"},
		{"layers changed", func(a jsonArchive, _ *dock) { a[0].Layers[0], a[0].Layers[1] = a[0].Layers[1], a[0].Layers[0] }, "the layer's tar has the digest"},
		{"bad name", func(a jsonArchive, _ *dock) { a[0].Refs = []string{"A:1"} }, "invalid reference format"},
		{"config", func(a jsonArchive, _ *dock) { a[0].Config = []byte("{") }, "JSON"},
		{"records", func(_ jsonArchive, e *dock) { e.faulty.fault = func() error { return errors.New("boom") } }, "boom"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a jsonArchive
			if err := json.Unmarshal(good, &a); err != nil {
				t.Fatal(err)
			}
			e := newDock(t)
			c.spoil(a, e)
			b, _ := json.Marshal(a)
			if _, err := e.load1(t, b); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %s", err, c.err)
			}
			e.clear(t)
		})
	}
	e := newDock(t)
	ctx, cancel := context.WithCancel(t.Context())
	e.layers.fault = func(string, brig.Digest) error { cancel(); return nil }
	if err := e.Load(ctx, bytes.NewReader(good), "", func(brig.Progress) {}); !errs.Is(err, errs.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	e.clear(t)
}

// With a platform, load takes the images for it and leaves the others.
func TestLoadPlatform(t *testing.T) {
	d, e := newDock(t), newDock(t)
	d.publish("a:1", "base")
	d.mustPull(t, "a:1")
	b := d.save1(t, "a:1")
	tell := func(brig.Progress) {}
	wantErr(t, "another platform", e.Load(t.Context(), bytes.NewReader(b), "linux/arm64", tell), errs.NotFound, "requested platform (linux/arm64) not found: the archive has linux/amd64")
	e.clear(t)
	if err := e.Load(t.Context(), bytes.NewReader(b), "linux/amd64", tell); err != nil {
		t.Error(err)
	}
	if _, err := e.ImageGet(t.Context(), "a:1"); err != nil {
		t.Error(err)
	}
}
