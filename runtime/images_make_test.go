package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func layerOf(content string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	}
}

func TestMakeImage(t *testing.T) {
	d := newDock(t)
	parent := d.publish("a:1", "base", "top")
	d.mustPull(t, "a:1")
	n := brig.NewImage{
		Parent: parent, Platform: brig.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, Config: brig.ImageConfig{Cmd: []string{"x"}},
		Repository: "made", Tag: "2", Author: "me", Comment: "why", CreatedBy: "sh",
	}
	id, ref, err := d.MakeImage(t.Context(), n, layerOf("mine"))
	if err != nil || ref != "made:2" {
		t.Fatalf("%s, %v", ref, err)
	}
	img, err := d.ImageGet(t.Context(), "made:2")
	if err != nil || img.ID != id || len(img.Layers) != 3 || img.Layers[2].Chain != d.layerChains("base", "top", "mine")[2] || img.Layers[2].Blob.Digest != brig.DigestOf([]byte("mine")) {
		t.Fatalf("%+v, %v", img, err)
	}
	if !strings.HasSuffix(img.ACI.Name, "/made:2") {
		t.Errorf("its ACI has been told the name %q", img.ACI.Name)
	}
	config, err := d.ImageBlob(t.Context(), "made:2", "config")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Architecture, Variant, OS, Author string
		Config                            struct{ Cmd []string }
		History                           []map[string]any
	}
	if err := json.Unmarshal(config, &doc); err != nil {
		t.Fatal(err)
	}
	last := doc.History[len(doc.History)-1]
	if doc.Architecture != "arm64" || doc.Variant != "v8" || doc.OS != "linux" || doc.Author != "me" || doc.Config.Cmd[0] != "x" || len(doc.History) != 5 ||
		last["created_by"] != "sh" || last["comment"] != "why" || last["author"] != "me" || last["empty_layer"] != nil {
		t.Errorf("config %s", config)
	}
	empty, ref, err := d.MakeImage(t.Context(), brig.NewImage{Parent: id, Platform: n.Platform}, nil)
	if err != nil || ref != "" {
		t.Fatal(err)
	}
	if config, err := d.ImageBlob(t.Context(), string(empty), "config"); err != nil || !bytes.Contains(config, []byte(`"empty_layer":true`)) {
		t.Errorf("%s, %v", config, err)
	}
	d.shut()
	d.open(t)
	for _, ref := range []string{"a:1", "made:2", string(empty)} {
		if _, err := d.ImageRemove(t.Context(), ref, false, false); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	}
	d.clear(t)
}

// Whatever fails, nothing of the image stays, and its parent is as before.
func TestMakeImageFails(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		fault func(d *dock)
		n     func(n *brig.NewImage)
		layer func(context.Context, io.Writer) error
	}{
		"the tar": {layer: func(_ context.Context, w io.Writer) error {
			io.WriteString(w, "half")
			return boom
		}},
		"applying": {fault: func(d *dock) {
			d.layers.fault = func(stage string, _ brig.Digest) error {
				if stage == "applied" {
					return boom
				}
				return nil
			}
		}},
		"records":       {fault: func(d *dock) { d.faulty.fault = func() error { return boom } }},
		"its ACI":       {fault: func(d *dock) { d.conv.fault = func() error { return boom } }},
		"a wrong name":  {n: func(n *brig.NewImage) { n.Repository = "UPPER" }},
		"a lost parent": {n: func(n *brig.NewImage) { n.Parent = brig.DigestOf([]byte("nosuch")) }},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDock(t)
			n := brig.NewImage{Parent: d.publish("a:1", "base", "top"), Platform: d.Host, Repository: "made"}
			d.mustPull(t, "a:1")
			if c.fault != nil {
				c.fault(d)
			}
			if c.n != nil {
				c.n(&n)
			}
			layer := c.layer
			if layer == nil {
				layer = layerOf("mine")
			}
			if _, _, err := d.MakeImage(t.Context(), n, layer); err == nil {
				t.Error("no error")
			}
			d.layers.fault, d.faulty.fault, d.conv.fault = nil, nil, nil
			if l, err := d.ImageList(t.Context()); err != nil || len(l) != 1 {
				t.Errorf("%d images, %v", len(l), err)
			}
			if _, err := d.ImageRemove(t.Context(), "a:1", false, false); err != nil {
				t.Error(err)
			}
			d.clear(t)
		})
	}
}

// The same layer made by several at once, while others remove it, is there for whoever was told so.
func TestMakeImageTogether(t *testing.T) {
	d := newDock(t)
	parent := d.publish("a:1", "base")
	d.mustPull(t, "a:1")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 10 {
				id, _, err := d.MakeImage(t.Context(), brig.NewImage{Parent: parent, Platform: d.Host, CreatedBy: time.Now().String()}, layerOf("mine"))
				if err != nil {
					t.Error(err)
					return
				}
				if err := d.Save(t.Context(), []string{string(id)}, io.Discard); err != nil {
					t.Errorf("save: %v", err)
				}
				if _, err := d.ImageRemove(t.Context(), string(id), false, false); err != nil && !errs.Is(err, errs.NotFound) {
					t.Errorf("remove: %v", err)
				}
			}
		})
	}
	all.Wait()
	if _, err := d.ImageRemove(t.Context(), "a:1", false, false); err != nil {
		t.Error(err)
	}
	d.clear(t)
}

func TestImportPlain(t *testing.T) {
	d := newDock(t)
	d.Downloads = downloads{"http://h/x": strings.Repeat("x", 3000)}
	var said []string
	tell := func(p brig.Progress) { said = append(said, p.Status) }
	d.Archives = plainArchives{}
	if err := d.Import(t.Context(), brig.ImportRequest{Repository: "i", Source: "http://h/x", Changes: []string{"CMD [\"a\"]"}}, nil, tell); err != nil {
		t.Fatal(err)
	}
	if img, err := d.ImageGet(t.Context(), "i"); err != nil || !strings.HasSuffix(img.ACI.Name, "/i:latest") {
		t.Errorf("%+v, %v", img, err)
	}
	if said[0] != "Downloading from http://h/x" || !strings.HasPrefix(said[len(said)-1], "sha256:") {
		t.Errorf("reported %q", said)
	}
	wantErr(t, "unknown URL", d.Import(t.Context(), brig.ImportRequest{Source: "http://h/y"}, nil, tell), errs.NotFound, "404")
	wantErr(t, "bad change", d.Import(t.Context(), brig.ImportRequest{Changes: []string{"FROM x"}}, nil, tell), errs.Invalid, "not a valid change")
	if _, err := d.ImageRemove(t.Context(), "i", false, false); err != nil {
		t.Error(err)
	}
	d.clear(t)
}

// downloads are files by URL.
type downloads map[string]string

func (d downloads) Download(_ context.Context, url string) (io.ReadCloser, int64, error) {
	b, ok := d[url]
	if !ok {
		return nil, 0, errs.New(errs.NotFound, "failed to GET %s with status 404 Not Found", url)
	}
	return io.NopCloser(strings.NewReader(b)), int64(len(b)), nil
}

// plainArchives takes everything for uncompressed.
type plainArchives struct{ imgArchives }

func (plainArchives) Decompress(_ context.Context, r io.Reader, _ string) (io.ReadCloser, error) {
	return io.NopCloser(r), nil
}
