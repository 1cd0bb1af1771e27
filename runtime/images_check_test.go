package runtime

import (
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/elfcheck"
	"github.com/brigd/brig/internal/errs"
)

// A name that was pulled for several platforms means each of them to who asks for it, also for the next process; and nothing else.
func TestOneNameForSeveralPlatforms(t *testing.T) {
	d := newDock(t)
	ids := map[string]brig.Digest{}
	for _, arch := range []string{"amd64", "arm64", "s390x"} {
		ids[arch] = d.publishFor(arch, "x:1", "base", "for "+arch)
		d.mustPull(t, "x:1")
	}
	means := func(when string, want map[string]brig.Digest) {
		t.Helper()
		for platform, id := range want {
			var got brig.Digest
			err := d.With(t.Context(), "x:1", platform, func(i *brig.Image) error { got = i.ID; return nil })
			if got != id || (id == "") != errs.Is(err, errs.NotFound) {
				t.Errorf("%s, %q means %s, %v; want %s", when, platform, got, err, id)
			}
			if info, err := d.ImageFor(t.Context(), "x:1", platform); id != "" && (err != nil || info.ID != id) {
				t.Errorf("%s, %q is shown as %v, %v; want %s", when, platform, info, err, id)
			}
		}
		list, err := d.ImageForEach(t.Context(), "x:1")
		if errs.Is(err, errs.NotFound) && want[""] == "" {
			return
		}
		wanted := map[brig.Digest]bool{}
		for _, id := range want {
			wanted[id] = id != ""
		}
		delete(wanted, "")
		got := map[brig.Digest]bool{}
		for _, i := range list {
			got[i.ID] = true
		}
		if err != nil || !maps.Equal(got, wanted) || list[0].ID != want[""] {
			t.Errorf("%s it means all of %v, %v; want %v", when, got, err, wanted)
		}
	}
	all := map[string]brig.Digest{"": ids["s390x"], "linux/amd64": ids["amd64"], "linux/arm64": ids["arm64"], "linux/s390x": ids["s390x"], "linux/riscv64": "", "freebsd/amd64": ""}
	means("at first", all)
	d.shut()
	d.open(t)
	means("after a restart", all)

	// A newer one for a platform takes the place of the older.
	newer := d.publishFor("arm64", "x:1", "base", "newer")
	d.mustPull(t, "x:1")
	all[""], all["linux/arm64"] = newer, newer
	means("after a newer one came", all)

	// What has been removed isn't meant any more.
	if _, err := d.ImageRemove(t.Context(), string(ids["amd64"]), false, false); err != nil {
		t.Fatal(err)
	}
	all["linux/amd64"] = ""
	means("after one was removed", all)

	// A tag says what the name means, for all platforms; and another name has never meant the others.
	if err := d.ImageTag(t.Context(), "x:1", "y", "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ImageFor(t.Context(), "y:1", "linux/s390x"); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "does not match the specified platform (linux/s390x)") {
		t.Errorf("y:1 means the other platform too: %v", err)
	}
	if err := d.ImageTag(t.Context(), string(ids["s390x"]), "x", "1"); err != nil {
		t.Fatal(err)
	}
	means("after a tag", map[string]brig.Digest{"": ids["s390x"], "linux/arm64": ""})

	// With the name all is forgotten.
	d.publishFor("amd64", "x:1", "base", "again")
	d.mustPull(t, "x:1")
	if _, err := d.ImageRemove(t.Context(), "x:1", false, false); err != nil {
		t.Fatal(err)
	}
	means("without the name", map[string]brig.Digest{"linux/s390x": "", "linux/amd64": ""})
}

// mountedAt is a RootFS whose clones are all at one directory.
type mountedAt struct {
	RootFS
	dir string
}

func (m mountedAt) Mount(context.Context, brig.RID) (string, error) { return m.dir, nil }

func TestCheckImage(t *testing.T) {
	d := newDock(t)
	d.RootFS = mountedAt{d.RootFS, t.TempDir()}
	d.Machine = func() elfcheck.Host { return elfcheck.Host{OS: "linux", Arch: "amd64"} }
	d.publish("x:1", "base")
	d.mustPull(t, "x:1")
	for host, want := range map[string]string{"": "linux/amd64", "freebsd/13.2": "freebsd/13.2/amd64", "linux/arm64": "linux/arm64"} {
		if r, err := d.CheckImage(t.Context(), "x:1", "", host); err != nil || r.Host != want || r.Image != "x:1" {
			t.Errorf("%q: %+v, %v", host, r, err)
		}
	}
	if _, err := d.CheckImage(t.Context(), "x:1", "", "plan9"); !errs.Is(err, errs.Invalid) {
		t.Errorf("a host that is none: %v", err)
	}
	if _, err := d.CheckImage(t.Context(), "y:1", "", ""); !errs.Is(err, errs.NotFound) {
		t.Errorf("an image that isn't there: %v", err)
	}
	if _, err := d.CheckImage(t.Context(), "x:1", "linux/arm64", ""); !errs.Is(err, errs.NotFound) {
		t.Errorf("another platform: %v", err)
	}
	d.aciIDs(t) // also the background clones the image for a while
	if left := d.Temporary(); len(left) > 0 {
		t.Errorf("clones are left: %v", left)
	}
}
