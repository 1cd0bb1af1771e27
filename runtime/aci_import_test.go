package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/trust"
)

// jsonACIs reads ACIs in a form of its own: a manifest in JSON, whose name is the layer's content and docker's name, too.
type jsonACIs struct{ open atomic.Int64 } // layers that were not closed

func (j *jsonACIs) ReadACI(_ context.Context, r io.Reader, _ string) (*brig.ACIArchive, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	info, err := j.ACIInfo(b)
	if err != nil {
		return nil, err
	}
	content := []byte(info.Name)
	d := brig.DigestOf(content)
	j.open.Add(1)
	return &brig.ACIArchive{ACIInfo: *info, ID: "sha512-" + brig.DigestOf(b).Hex(), Manifest: b, Close: j.close,
		Layer: brig.ArchiveLayer{Blob: brig.Descriptor{MediaType: "plain", Digest: d, Size: int64(len(content))}, Diff: d,
			Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(info.Name)), nil }}}, nil
}

func (j *jsonACIs) close() error { j.open.Add(-1); return nil }

func (j *jsonACIs) ACIInfo(manifest []byte) (*brig.ACIInfo, error) {
	var info brig.ACIInfo
	return &info, errs.As(errs.Invalid, json.Unmarshal(manifest, &info))
}

func (j *jsonACIs) ImageFromACI(_ context.Context, a *brig.ACIArchive, lower []brig.ArchiveLayer, _ string) (brig.ArchiveImage, []string, func() error, error) {
	j.open.Add(1)
	layers := append(lower, a.Layer)
	c := imgConfig{OS: "linux", Architecture: "amd64", Labels: map[string]string{"aci": a.ID}}
	for _, l := range layers {
		c.RootFS.Diffs = append(c.RootFS.Diffs, l.Diff)
	}
	config, err := json.Marshal(c)
	return brig.ArchiveImage{Config: config, Layers: layers, Refs: []string{a.Name + ":1"}}, []string{"careful"}, j.close, err
}

// WriteLayers writes each layer's digest and the manifest.
func (j *jsonACIs) WriteLayers(_ context.Context, img brig.ArchiveImage, manifest []byte, create func(string) (io.WriteCloser, error)) error {
	for n, l := range img.Layers {
		w, err := create(fmt.Sprint("x.org/layer-", n))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s %s", l.Blob.Digest, manifest)
		if err = errors.Join(err, w.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (d *dock) importACI(t *testing.T, info brig.ACIInfo) (*brig.ACIImported, error) {
	t.Helper()
	b, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	d.readyForACIs(t)
	got, err := d.ImportACI(t.Context(), brig.ACIImport{Body: bytes.NewReader(b)}, func(brig.Progress) {})
	if n := d.ACIs.(*jsonACIs).open.Load(); n != 0 {
		t.Errorf("%d layers were not closed", n)
	}
	return got, err
}

// readyForACIs gives the dock what imports need.
func (d *dock) readyForACIs(t *testing.T) {
	t.Helper()
	if d.ACIs == nil {
		d.ACIs, d.UnsignedACIs, d.Keys = &jsonACIs{}, "files", trust.Open(filepath.Join(d.dir, "trust"))
	}
}

func TestImportACI(t *testing.T) {
	d := newDock(t)
	base, err := d.importACI(t, brig.ACIInfo{Name: "x.org/base", Labels: map[string]string{"version": "1", "layer": "a"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		dep  brig.ACIDependency
		err  string // "": it is satisfied
	}{
		{"name", brig.ACIDependency{Name: "x.org/base"}, ""},
		{"labels and ID", brig.ACIDependency{Name: "x.org/base", ID: base.ACI, Labels: map[string]string{"version": "1", "layer": "b"}}, ""},
		{"other name", brig.ACIDependency{Name: "x.org/bas"}, "dependency x.org/bas is missing: no image has this name"},
		{"other label", brig.ACIDependency{Name: "x.org/base", Labels: map[string]string{"version": "2"}}, "base,version=2 is missing: the image of this name has the label version=1"},
		{"other ID", brig.ACIDependency{Name: "x.org/base", ID: "sha512-0"}, "imageID=sha512-0 is missing: the image of this name is " + base.ACI},
	} {
		got, err := d.importACI(t, brig.ACIInfo{Name: "x.org/app", Dependencies: []brig.ACIDependency{c.dep}})
		if c.err != "" {
			if !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want NotFound with %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		info, err := d.ImageGet(t.Context(), got.Ref)
		if err != nil || got.Ref != "x.org/app:1" || len(info.Layers) != 2 || info.ACI.ID != got.ACI || info.ACI.Name != "x.org/app" || len(got.Warnings) != 1 {
			t.Errorf("%s: %+v, %+v, %v", c.name, got, info, err)
		}
	}
	d.shut()
	d.open(t)
	list, _ := d.ImageList(t.Context())
	for _, info := range list {
		if info.ACI.ID == "" || info.ACI.Manifest == "" || !d.Blobs.Has(info.ACI.Manifest) {
			t.Errorf("after a new start: %+v", info.ACI)
		}
		if _, err := d.ImageRemove(t.Context(), string(info.ID), true, false); err != nil {
			t.Error(err)
		}
	}
	d.clear(t)
}

func TestImportACIFails(t *testing.T) {
	boom := errors.New("boom")
	for name, spoil := range map[string]func(d *dock){
		"records":    func(d *dock) { d.faulty.fault = func() error { return boom } },
		"apply":      func(d *dock) { d.layers.fault = func(string, brig.Digest) error { return boom } },
		"conversion": func(d *dock) { d.conv.fault = func() error { return boom } },
	} {
		d := newDock(t)
		spoil(d)
		if _, err := d.importACI(t, brig.ACIInfo{Name: "x.org/app"}); !errors.Is(err, boom) {
			t.Errorf("%s: %v", name, err)
		}
		d.layers.mu.Lock()
		d.layers.fault = nil
		d.layers.mu.Unlock()
		d.Reap(t.Context())
		d.clear(t)
	}
	d := newDock(t)
	if _, err := d.importACI(t, brig.ACIInfo{Name: "Bad name"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("bad name: %v", err)
	}
	d.clear(t)
}
