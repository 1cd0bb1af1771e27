package runtime

import (
	"bytes"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Images are found by what appc calls them, also by an ID that has not been computed yet.
func TestFindACI(t *testing.T) {
	d := newDock(t)
	got, err := d.importACI(t, brig.ACIInfo{Name: "x.org/app", Labels: map[string]string{"version": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	known, manifest, err := d.ACIDocument(t.Context(), got.ID)
	if err != nil || known != got.ACI || !bytes.Contains(manifest, []byte("x.org/app")) {
		t.Fatalf("%s %s %v", known, manifest, err)
	}
	if err := d.recordACI(t.Context(), got.ID, ""); err != nil { // as after a pull
		t.Fatal(err)
	}
	computed, _, err := d.ACIDocument(t.Context(), got.ID)
	if err != nil || !strings.HasPrefix(computed, "sha512-") {
		t.Errorf("computed: %s %v", computed, err)
	}
	if err := d.recordACI(t.Context(), got.ID, ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		d   brig.ACIDependency
		err string // "": found
	}{
		{brig.ACIDependency{ID: computed}, ""},
		{brig.ACIDependency{Name: "x.org/app", Labels: map[string]string{"version": "1"}}, ""},
		{brig.ACIDependency{Name: "x.org/app", Labels: map[string]string{"version": "2"}}, "No such image: x.org/app,version=2"},
		{brig.ACIDependency{Name: "x.org/other", ID: computed}, "No such image: x.org/other,imageID=" + computed},
		{brig.ACIDependency{ID: "sha512-0"}, "No such image: imageID=sha512-0"},
	} {
		id, ref, err := d.FindACI(t.Context(), c.d)
		if c.err == "" && (err != nil || id != got.ID || ref != "x.org/app:1") || c.err != "" && (!errs.Is(err, errs.NotFound) || err.Error() != c.err) {
			t.Errorf("%+v: %s %s %v", c.d, id, ref, err)
		}
	}
	if _, _, err := d.ACIDocument(t.Context(), brig.DigestOf([]byte("nothing"))); !errs.Is(err, errs.NotFound) {
		t.Errorf("of no image: %v", err)
	}
}
