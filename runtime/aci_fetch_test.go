package runtime

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// aciWeb is a web of ACIs: pages by URL, and by name where they are.
type aciWeb struct {
	pages map[string][]byte
	names map[string][]brig.ACIEndpoint
	gets  []string
}

func (w *aciWeb) Locate(_ context.Context, n brig.ACIName, _ bool) ([]brig.ACIEndpoint, error) {
	if e := w.names[n.Name]; e != nil {
		return e, nil
	}
	return nil, errs.New(errs.NotFound, "discover %s: nothing there", n.Name)
}

func (w *aciWeb) Open(_ context.Context, u string, _ bool, limit int64) (io.ReadCloser, int64, error) {
	w.gets = append(w.gets, u)
	b, ok := w.pages[u]
	if !ok {
		return nil, 0, errs.New(errs.NotFound, "Get %q: 404", u)
	}
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

// put publishes an ACI under its name's URL, signed by the keys, and returns its URL.
func (w *aciWeb) put(t *testing.T, info brig.ACIInfo, signers ...*openpgp.Entity) string {
	t.Helper()
	b, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	u := "https://web/" + info.Name + ".aci"
	w.pages[u] = b
	w.names[info.Name] = append(w.names[info.Name], brig.ACIEndpoint{ACI: u, Signature: u + ".asc"})
	if len(signers) > 0 {
		w.pages[u+".asc"] = signed(t, b, signers...)
	}
	return u
}

func signed(t *testing.T, b []byte, signers ...*openpgp.Entity) []byte {
	t.Helper()
	var sig bytes.Buffer
	if err := openpgp.DetachSign(&sig, signers, bytes.NewReader(b), nil); err != nil {
		t.Fatal(err)
	}
	return sig.Bytes()
}

// newSigner makes a key and trusts it for the prefixes.
func (d *dock) newSigner(t *testing.T, prefixes ...string) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("signer", "", "s@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	var ring bytes.Buffer
	w, err := armor.Encode(&ring, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Serialize(w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for _, p := range prefixes {
		if _, err := d.Keys.Trust(t.Context(), p, ring.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func newWebDock(t *testing.T) (*dock, *aciWeb) {
	d := newDock(t)
	d.readyForACIs(t)
	w := &aciWeb{pages: map[string][]byte{}, names: map[string][]brig.ACIEndpoint{}}
	d.Web = w
	return d, w
}

func (d *dock) from(t *testing.T, r brig.ACIImport) (*brig.ACIImported, error) {
	t.Helper()
	got, err := d.ImportACI(t.Context(), r, func(brig.Progress) {})
	if n := d.ACIs.(*jsonACIs).open.Load(); n != 0 {
		t.Errorf("%d layers were not closed", n)
	}
	return got, err
}

// empty removes all images, then nothing may be left.
func (d *dock) empty(t *testing.T) {
	t.Helper()
	list, _ := d.ImageList(t.Context())
	for _, info := range list {
		if _, err := d.ImageRemove(t.Context(), string(info.ID), true, false); err != nil {
			t.Error(err)
		}
	}
	d.clear(t)
}

func TestImportSignature(t *testing.T) {
	body, err := json.Marshal(brig.ACIInfo{Name: "x.org/app"})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := newWebDock(t)
	friend, other, stranger := d.newSigner(t, "x.org"), d.newSigner(t, "y.org"), d.newSigner(t)
	for _, c := range []struct {
		name, unsigned string
		sig            []byte
		want           string // "" success
	}{
		{"unsigned, none allowed", "none", nil, "is not signed"},
		{"unsigned, not configured", "", nil, "is not signed"},
		{"unsigned files", "files", nil, ""},
		{"unsigned all", "all", nil, ""},
		{"signed", "none", signed(t, body, friend), ""},
		{"signed by several", "none", signed(t, body, stranger, other, friend), ""},
		{"stranger", "none", signed(t, body, stranger), "a key that is not trusted"},
		{"stranger, unsigned allowed", "all", signed(t, body, stranger), "a key that is not trusted"},
		{"for another name", "none", signed(t, body, other), "trusted for y.org, not for x.org/app"},
		{"of other bytes", "none", signed(t, []byte("x"), friend), "is bad"},
		{"junk", "all", []byte("junk"), "read the signature"},
		{"empty", "all", []byte{}, "read the signature"},
	} {
		d.UnsignedACIs = c.unsigned
		got, err := d.from(t, brig.ACIImport{Body: bytes.NewReader(body), Signature: c.sig})
		if c.want == "" {
			if signers := len(got.Signers) == 1; err != nil || signers != (c.sig != nil) {
				t.Errorf("%s: %+v, %v", c.name, got, err)
			}
			d.empty(t)
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v, want %q", c.name, got, err, c.want)
		}
		d.clear(t)
	}
}

// unreadACIs fails the test when it is read: what nobody who is trusted signed must not be unpacked.
type unreadACIs struct {
	jsonACIs
	t *testing.T
}

func (u *unreadACIs) ReadACI(context.Context, io.Reader, string) (*brig.ACIArchive, error) {
	u.t.Error("a stranger's bytes were unpacked")
	return nil, errs.New(errs.Internal, "unpacked")
}

func TestImportVerifiesFirst(t *testing.T) {
	d, _ := newWebDock(t)
	stranger := d.newSigner(t)
	d.ACIs = &unreadACIs{t: t}
	if _, err := d.ImportACI(t.Context(), brig.ACIImport{Body: strings.NewReader("bomb"), Signature: signed(t, []byte("bomb"), stranger)}, func(brig.Progress) {}); !errs.Is(err, errs.Forbidden) {
		t.Error(err)
	}
	d.clear(t)
}

func TestImportFromWeb(t *testing.T) {
	d, w := newWebDock(t)
	d.UnsignedACIs = "files"
	friend, other := d.newSigner(t, "x.org"), d.newSigner(t, "y.org")
	u := w.put(t, brig.ACIInfo{Name: "x.org/app", Labels: map[string]string{"version": "1", "os": goruntime.GOOS, "arch": goruntime.GOARCH}}, friend)
	plain := w.put(t, brig.ACIInfo{Name: "x.org/plain"})
	w.put(t, brig.ACIInfo{Name: "x.org/wrong"}, other)
	w.names["x.org/moved"] = append([]brig.ACIEndpoint{{ACI: "https://web/gone", Signature: "https://web/gone.asc"}}, w.names["x.org/app"]...)
	w.pages["https://web/gone.asc"] = []byte("x")
	w.put(t, brig.ACIInfo{Name: "x.org/lies", Labels: map[string]string{"os": "plan9"}}, friend)
	for from, want := range map[string]string{
		u:                                  "",
		"x.org/app":                        "",
		"x.org/app:1,os=" + goruntime.GOOS: "",
		"x.org/app:2":                      "label version=1, not 2",
		"x.org/app,channel=beta":           "label channel=, not beta",
		"x.org/moved":                      "it is the ACI x.org/app, not x.org/moved",
		"x.org/lies":                       "for os=plan9",
		"x.org/lies,os=plan9":              "",
		plain:                              "no signature at " + plain + ".asc",
		"x.org/plain":                      "no signature",
		"x.org/wrong":                      "trusted for y.org, not for x.org/wrong",
		"x.org/none":                       "nothing there",
		"https://web/none.aci":             "404",
		"X":                                "no ACI name",
		"https://web/x.org/app.aci?a=b#c%": "%",
	} {
		got, err := d.from(t, brig.ACIImport{From: from})
		if want == "" {
			if err != nil || len(got.Signers) != 1 || got.Ref == "" {
				t.Errorf("%s: %+v, %v", from, got, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", from, got, err, want)
		}
		d.empty(t)
	}
	d.UnsignedACIs = "all"
	if _, err := d.from(t, brig.ACIImport{From: plain}); err != nil {
		t.Error(err)
	}
	d.empty(t)
}

func TestSignatureURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://a/b.aci":         "https://a/b.aci.asc",
		"https://a/b.aci?x=y":     "https://a/b.aci.asc?x=y",
		"https://a/b%2fc.aci":     "https://a/b%2fc.aci.asc",
		"https://u:p@a:1/b.aci#f": "https://u:p@a:1/b.aci.asc#f",
	} {
		if got := signatureURL(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestImportDependencies(t *testing.T) {
	needs := func(name string, deps ...string) brig.ACIInfo {
		info := brig.ACIInfo{Name: name}
		for _, dep := range deps {
			info.Dependencies = append(info.Dependencies, brig.ACIDependency{Name: dep, Labels: map[string]string{}})
		}
		return info
	}
	d, w := newWebDock(t)
	friend, other := d.newSigner(t, "x.org"), d.newSigner(t, "y.org")
	w.put(t, needs("x.org/base"), friend)
	w.put(t, needs("x.org/mid", "x.org/base"), friend)
	w.put(t, needs("x.org/app", "x.org/mid", "x.org/base"), friend)
	w.put(t, needs("x.org/loop", "x.org/pool"), friend)
	w.put(t, needs("x.org/pool", "x.org/loop"), friend)
	w.put(t, needs("x.org/stolen"), other)
	for n := range maxACIDepth + 2 {
		w.put(t, needs(fmt.Sprintf("x.org/deep%d", n), fmt.Sprintf("x.org/deep%d", n+1)), friend)
	}
	var many []string
	for n := range maxACIFetches {
		many = append(many, fmt.Sprintf("x.org/n%d", n))
		w.put(t, needs(many[n]), friend)
	}
	w.put(t, needs("x.org/many", many...), friend)

	got, err := d.from(t, brig.ACIImport{From: "x.org/app"})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := d.ImageGet(t.Context(), got.Ref); err != nil || len(info.Layers) != 4 { // base, mid, base, app
		t.Errorf("%+v, %v", info, err)
	}
	if list, _ := d.ImageList(t.Context()); len(list) != 3 {
		t.Errorf("%d images, want 3", len(list))
	}
	n := len(w.gets)
	if _, err := d.from(t, brig.ACIImport{From: "x.org/mid"}); err != nil || len(w.gets)-n != 2 {
		t.Errorf("what is here is not asked for again: %v, %v", w.gets[n:], err)
	}
	d.empty(t)

	for from, want := range map[string]string{
		"x.org/loop":  "it depends on itself: x.org/pool needs x.org/loop needs x.org/pool",
		"x.org/deep0": "nested more than",
		"x.org/many":  "more than 64 ACIs",
	} {
		if _, err := d.from(t, brig.ACIImport{From: from}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", from, err, want)
		}
		d.empty(t)
	}

	d.UnsignedACIs = "files"
	for _, c := range []struct {
		dep      brig.ACIDependency
		discover bool
		want     string
	}{
		{brig.ACIDependency{Name: "x.org/base"}, false, "no image has this name"},
		{brig.ACIDependency{Name: "x.org/base"}, true, ""},
		{brig.ACIDependency{Name: "x.org/base", Labels: map[string]string{"layer": "x"}}, true, ""},
		{brig.ACIDependency{Name: "x.org/base", Labels: map[string]string{"version": "2"}}, true, "label version=, not 2"},
		{brig.ACIDependency{Name: "x.org/base", ID: "sha512-0"}, true, "not sha512-0"},
		{brig.ACIDependency{Name: "x.org/nowhere"}, true, "nothing there"},
		{brig.ACIDependency{Name: "x.org/stolen"}, true, "trusted for y.org"},
	} {
		b, err := json.Marshal(brig.ACIInfo{Name: "x.org/top", Dependencies: []brig.ACIDependency{c.dep}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.from(t, brig.ACIImport{Body: bytes.NewReader(b), Discover: c.discover})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %+v, %v, want %q", c.dep, got, err, c.want)
		}
		d.empty(t)
	}
}

func TestExportLayered(t *testing.T) {
	d, _ := newWebDock(t)
	id := d.publish("a/b:1", "one", "two")
	d.mustPull(t, "a/b:1")
	var b, again bytes.Buffer
	if err := d.ExportLayered(t.Context(), "a/b:1", &b); err != nil {
		t.Fatal(err)
	}
	if err := d.ExportLayered(t.Context(), string(id), &again); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Errorf("again: other bytes, or %v", err)
	}
	info, err := d.ImageGet(t.Context(), "a/b:1")
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(&b)
	for n := range 2 {
		h, err := tr.Next()
		if err != nil || h.Name != fmt.Sprintf("x.org-layer-%d.aci", n) {
			t.Fatalf("%+v, %v", h, err)
		}
		got, err := io.ReadAll(tr)
		if err != nil || !strings.HasPrefix(string(got), string(info.Layers[n].Blob.Digest)+" ") {
			t.Errorf("layer %d: %s, %v", n, got, err)
		}
	}
	if _, err := tr.Next(); err != io.EOF {
		t.Errorf("more: %v", err)
	}
	if err := d.ExportLayered(t.Context(), "none", io.Discard); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	d.empty(t)
}
