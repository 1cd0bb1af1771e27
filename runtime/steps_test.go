package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func (d *dock) session(t *testing.T) *StepSession {
	t.Helper()
	x, err := d.steps.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (d *dock) base(t *testing.T, x *StepSession, ref string) *brig.Base {
	t.Helper()
	b, err := x.Base(t.Context(), ref, "", false, nil, func(brig.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// built builds name from ref, and says how many steps came from the cache.
func (d *dock) built(t *testing.T, name, ref string, steps ...carried) (brig.Digest, int) {
	t.Helper()
	x := d.session(t)
	defer x.End(t.Context())
	b, cached := d.bring(t, x, d.base(t, x, ref), steps...)
	b.Tags = []string{name}
	id, err := x.Make(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return id, cached
}

// bare asserts that nothing is left, once what stood on something that went later has been tried again.
func (d *dock) bare(t *testing.T) {
	t.Helper()
	for range 4 { // there are no Leftovers here, which would know the order
		d.Reap(t.Context())
	}
	d.clear(t)
}

var threeSteps = []carried{{"k1", "RUN one", "one"}, {"k2", "ENV a=b", ""}, {"k3", "COPY two /", "two"}}

func (d *dock) kind(t *testing.T, what string, err error, want errs.Kind) {
	t.Helper()
	if !errs.Is(err, want) {
		t.Errorf("%s: %v, want the kind %v", what, err, want)
	}
}

func TestBuiltImage(t *testing.T) {
	d := newDock(t)
	baseID := d.publish("base", "lower", "upper")
	id, cached := d.built(t, "mine:1", "base", threeSteps...)
	if cached != 0 {
		t.Errorf("%d steps from an empty cache", cached)
	}
	img, err := d.ImageGet(t.Context(), "mine:1")
	if err != nil || img.ID != id || len(img.Layers) != 4 || img.Size < 6 || img.Tagged.IsZero() {
		t.Fatalf("%+v, %v", img, err)
	}
	config, err := d.Blobs.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Created string
		RootFS  struct {
			Diffs []brig.Digest `json:"diff_ids"`
		}
		History []struct {
			Created string
			By      string `json:"created_by"`
			Empty   bool   `json:"empty_layer"`
		}
	}
	if err := json.Unmarshal(config, &doc); err != nil || len(doc.RootFS.Diffs) != 4 || len(doc.History) != 7 {
		t.Fatalf("%s, %v", config, err)
	}
	for n, h := range doc.History[4:] {
		if want := threeSteps[n]; h.By != want.by || h.Empty != (want.file == "") || h.Created == "" {
			t.Errorf("history %d: %+v", n, h)
		}
	}
	if last := doc.History[6]; doc.Created != last.Created {
		t.Errorf("created %s, the last step %s", doc.Created, last.Created)
	}
	for n, x := range img.Layers {
		if x.Diff != doc.RootFS.Diffs[n] || (x.Blob.Digest == "") != (n >= 2) {
			t.Errorf("layer %d: %+v", n, x)
		}
	}
	// From the cache it is the same image, also after a restart, and so it is for another name.
	for _, restart := range []bool{false, true} {
		if restart {
			d.shut()
			d.open(t)
		}
		if again, cached := d.built(t, "mine:2", "base", threeSteps...); again != id || cached != 3 {
			t.Errorf("again: %s, %d steps cached", again, cached)
		}
	}
	if _, err := d.ImageRemove(t.Context(), "base", true, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mine:1", "mine:2"} {
		if _, err := d.ImageRemove(t.Context(), name, false, false); err != nil {
			t.Error(err)
		}
	}
	if baseID == id {
		t.Error("the base is the image")
	}
	// What it stood on stays as long as its steps do.
	if n := len(d.layers.list()); n != 4 {
		t.Errorf("%d chains", n)
	}
	if _, err := d.steps.PruneBuilds(t.Context(), brig.BuildPruneRequest{All: true}); err != nil {
		t.Error(err)
	}
	d.bare(t)
}

func TestStepsAreForgottenWithTheirChains(t *testing.T) {
	d := newDock(t)
	d.publish("base", "lower")
	d.built(t, "mine", "base", threeSteps...)
	if _, err := d.ImageRemove(t.Context(), "mine", false, false); err != nil {
		t.Fatal(err)
	}
	d.shut()
	img := d.layers.list()
	d.layers.mu.Lock()
	for _, c := range img {
		if parent := d.layers.chains[c]; parent != "" && c != brig.ChainID(parent, "") {
			delete(d.layers.chains, c)
		}
	}
	d.layers.mu.Unlock()
	d.open(t)
	if list, err := d.steps.BuildCache(t.Context()); len(list) != 0 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	if r, err := d.store.List(t.Context(), kindStep); len(r) != 0 || err != nil {
		t.Errorf("records %v, %v", r, err)
	}
}

func TestSessionHoldsWhatItUses(t *testing.T) {
	d := newDock(t)
	d.publish("base", "lower")
	d.built(t, "mine", "base", threeSteps...)
	x := d.session(t)
	base := d.base(t, x, "base")
	for _, name := range []string{"mine", "base"} {
		if _, err := d.ImageRemove(t.Context(), name, true, false); err != nil {
			t.Fatal(err)
		}
	}
	b, cached := d.bring(t, x, base, threeSteps...)
	if cached != 3 {
		t.Errorf("%d cached", cached)
	}
	got, err := d.steps.PruneBuilds(t.Context(), brig.BuildPruneRequest{All: true})
	if len(got.IDs) != 0 || err != nil {
		t.Errorf("pruned under a build: %+v, %v", got, err)
	}
	view, err := x.View(t.Context(), base.Chain)
	if again, err2 := x.View(t.Context(), base.Chain); err != nil || err2 != nil || again != view {
		t.Errorf("view %q and %q, %v, %v", view, again, err, err2)
	}
	left, err := x.Clone(t.Context(), base.Chain)
	if err != nil || !slices.Contains(d.Temporary(), left.ID) {
		t.Errorf("%+v, %v", left, err)
	}
	id, err := x.Make(t.Context(), b)
	if err != nil {
		t.Error(err)
	}
	x.End(t.Context())
	x.End(t.Context())
	d.aciIDs(t)
	if len(d.Temporary()) != 0 || len(d.roots.roots) != 0 {
		t.Errorf("trees stay: %v, %v", d.Temporary(), d.roots.roots)
	}
	if _, err := d.ImageRemove(t.Context(), string(id), false, false); err != nil {
		t.Error(err)
	}
	if _, err := d.steps.PruneBuilds(t.Context(), brig.BuildPruneRequest{All: true}); err != nil {
		t.Error(err)
	}
	d.bare(t)
}

func TestUnfinishedBuildLeavesNothing(t *testing.T) {
	d := newDock(t)
	d.publish("base", "lower")
	x := d.session(t)
	base := d.base(t, x, "base")
	tree, err := x.Clone(t.Context(), base.Chain)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(tree.Path, "f"), nil, 0o600)
	if _, _, err := x.Commit(t.Context(), tree); err != nil { // and nobody keeps it
		t.Fatal(err)
	}
	empty, err := x.Clone(t.Context(), base.Chain)
	if err != nil {
		t.Fatal(err)
	}
	if chain, size, err := x.Commit(t.Context(), empty); chain != base.Chain || size != 0 || err != nil {
		t.Errorf("nothing changed: %s, %d, %v", chain, size, err)
	}
	if err := errors.Join(x.Discard(t.Context(), empty), x.Discard(t.Context(), tree)); err != nil {
		t.Error(err)
	}
	_, err = x.Base(t.Context(), "none", "", false, nil, func(brig.Progress) {})
	d.kind(t, "no such base", err, errs.NotFound)
	_, err = x.Base(t.Context(), "No", "", false, nil, func(brig.Progress) {})
	d.kind(t, "a bad name", err, errs.Invalid)
	_, err = x.Make(t.Context(), brig.BuiltImage{Base: brig.DigestOf(nil)})
	d.kind(t, "a base of another session", err, errs.NotFound)
	_, err = x.History(t.Context(), "none")
	d.kind(t, "history of nothing", err, errs.NotFound)
	x.End(t.Context())
	if _, err := d.ImageRemove(t.Context(), "base", false, false); err != nil {
		t.Fatal(err)
	}
	d.bare(t)
}

func TestHistoryOfSteps(t *testing.T) {
	d := newDock(t)
	d.publish("base", "lower")
	d.built(t, "mine", "base", threeSteps...)
	d.steps.PruneBuilds(t.Context(), brig.BuildPruneRequest{All: true})
	x := d.session(t)
	defer x.End(t.Context())
	steps, err := x.History(t.Context(), "mine")
	if err != nil || len(steps) != 3 {
		t.Fatalf("%+v, %v", steps, err)
	}
	for n, s := range steps {
		if s.Key != threeSteps[n].key || s.By != threeSteps[n].by || s.Own != (threeSteps[n].file != "") {
			t.Errorf("%+v", s)
		}
		if err := x.Keep(t.Context(), s); err != nil { // as cache-from does
			t.Error(err)
		}
	}
	if steps, err := x.History(t.Context(), "base"); err != nil || len(steps) != 2 || steps[0].Key != "" || !steps[0].Own || steps[1].Own {
		t.Errorf("of the base: %+v, %v", steps, err)
	}
}

func TestTarsAreMadeWhenNeeded(t *testing.T) {
	d := newDock(t)
	d.publish("base", "lower")
	id, _ := d.built(t, "mine", "base", threeSteps...)
	d.ImageTag(t.Context(), "mine", "other", "")
	blobs := func() int { l, _ := d.Blobs.List(); return len(l) }
	before := blobs()
	var reads sync.Map
	d.layers.mu.Lock()
	d.layers.fault = func(stage string, chain brig.Digest) error {
		if stage == "read" {
			if _, twice := reads.LoadOrStore(chain, true); twice {
				t.Errorf("layer %s is packed twice", chain)
			}
		}
		return nil
	}
	d.layers.mu.Unlock()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			var out bytes.Buffer
			if err := d.Save(t.Context(), []string{"mine"}, &out); err != nil {
				t.Error(err)
				return
			}
			var a jsonArchive
			if err := json.Unmarshal(out.Bytes(), &a); err != nil || len(a) != 1 || len(a[0].Layers) != 3 {
				t.Errorf("%v, %v", a, err)
				return
			}
			for _, l := range a[0].Layers[1:] {
				if brig.DigestOf(l.Bytes) != l.Diff || l.Blob.Digest != l.Diff || l.Blob.Size != int64(len(l.Bytes)) {
					t.Errorf("%s has other bytes: %+v", l.Diff, l.Blob)
				}
			}
		})
	}
	all.Wait()
	if n := blobs() - before; n != 2 {
		t.Errorf("%d blobs came", n)
	}
	d.shut()
	d.open(t)
	img, err := d.ImageGet(t.Context(), string(id))
	if err != nil || img.Layers[1].Blob.Digest != img.Layers[1].Diff || blobs()-before != 2 {
		t.Errorf("after a restart: %+v, %v", img, err)
	}
	if _, cached := d.built(t, "third", "base", threeSteps...); cached != 3 {
		t.Errorf("%d cached", cached)
	}
	for _, name := range []string{"mine", "other", "third", "base"} {
		d.ImageRemove(t.Context(), name, true, false)
	}
	d.steps.PruneBuilds(t.Context(), brig.BuildPruneRequest{All: true})
	d.bare(t)
}

func TestTarThatComesOutOtherwise(t *testing.T) {
	d := newDock(t)
	d.publish("base", "lower")
	d.built(t, "mine", "base", threeSteps...)
	img, _ := d.ImageGet(t.Context(), "mine")
	os.WriteFile(filepath.Join(d.trees.at(img.Layers[1].Chain.Hex()), "one"), []byte("other"), 0o600)
	d.kind(t, "save", d.Save(t.Context(), []string{"mine"}, io.Discard), errs.Internal)
	if has := d.Blobs.Has(img.Layers[1].Diff); has {
		t.Error("a wrong blob stays")
	}
}

func TestCommitOnBuiltImage(t *testing.T) {
	d := newDock(t)
	d.publish("base", "lower")
	id, _ := d.built(t, "mine", "base", threeSteps...)
	got, _, err := d.MakeImage(t.Context(), brig.NewImage{Parent: id, Platform: d.Host, Repository: "child"}, func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "child")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := d.ImageGet(t.Context(), string(got))
	if err != nil || len(img.Layers) != 4 || img.Layers[1].Blob.Digest != "" || img.Layers[3].Diff != brig.DigestOf([]byte("child")) {
		t.Errorf("%+v, %v", img, err)
	}
}

func TestEpoch(t *testing.T) {
	d := newDock(t)
	d.publish("base", "lower")
	var ids, diffs []string
	for range 2 {
		x := d.session(t)
		b, cached := d.bring(t, x, d.base(t, x, "base"), threeSteps...)
		if cached != 0 {
			t.Errorf("%d cached", cached)
		}
		at := time.Unix(1000, 0)
		b.Epoch, b.Created = &at, at
		for n := range b.Steps {
			b.Steps[n].Created = at
		}
		id, err := x.Make(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		x.End(t.Context())
		img, _ := d.ImageGet(t.Context(), string(id))
		ids, diffs = append(ids, string(id)), append(diffs, string(img.Layers[1].Diff))
		var out bytes.Buffer
		if err := d.Save(t.Context(), []string{string(id)}, &out); err != nil {
			t.Error(err)
		}
		d.steps.PruneBuilds(t.Context(), brig.BuildPruneRequest{All: true})
		time.Sleep(10 * time.Millisecond) // the next one's files are younger
	}
	if ids[0] != ids[1] || diffs[0] != diffs[1] {
		t.Errorf("%v, %v", ids, diffs)
	}
}

func TestPruneBuilds(t *testing.T) {
	d := newDock(t)
	d.publish("base", "lower")
	d.built(t, "mine", "base", threeSteps...)
	x := d.session(t)
	d.bring(t, x, d.base(t, x, "base"), carried{"k4", "RUN three", "three"}, carried{"k5", "RUN four", "four"})
	x.End(t.Context())
	time.Sleep(2 * time.Millisecond)
	line := time.Now()
	x = d.session(t)
	if _, err := x.Find(t.Context(), "k5"); err != nil {
		t.Fatal(err)
	}
	x.End(t.Context())
	list, err := d.steps.BuildCache(t.Context())
	if err != nil || len(list) != 5 {
		t.Fatalf("%+v, %v", list, err)
	}
	shared, size := 0, int64(0)
	for _, e := range list {
		if e.Type != brig.BuildCacheStep || e.InUse || e.Description == "" || e.ID == "k5" && (e.Count != 1 || e.Used.IsZero()) {
			t.Errorf("%+v", e)
		}
		if e.Shared {
			shared++
		}
		size += e.Size
	}
	if shared != 3 || size == 0 {
		t.Errorf("%d shared, %d bytes", shared, size)
	}
	for _, c := range []struct {
		name string
		r    brig.BuildPruneRequest
		want string
	}{
		{"nothing matches", brig.BuildPruneRequest{All: true, Match: func(e *brig.BuildCacheEntry) bool { return e.ID == "k9" }}, ""},
		{"enough may stay", brig.BuildPruneRequest{All: true, Keep: 1 << 30}, ""},
		{"one by its ID, but what an image has", brig.BuildPruneRequest{Match: func(e *brig.BuildCacheEntry) bool { return e.ID == "k2" }}, ""},
		{"all that nobody has used since, but what an image has", brig.BuildPruneRequest{Before: line}, "k4"},
		{"the rest, but what an image has", brig.BuildPruneRequest{}, "k5"},
		{"the rest", brig.BuildPruneRequest{All: true}, "k1 k2 k3"},
	} {
		got, err := d.steps.PruneBuilds(t.Context(), c.r)
		slices.Sort(got.IDs)
		if err != nil || strings.Join(got.IDs, " ") != c.want || (got.Freed > 0) != strings.ContainsAny(c.want, "45") {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
	d.ImageRemove(t.Context(), "mine", false, false)
	d.ImageRemove(t.Context(), "base", false, false)
	d.bare(t)
}

func TestStepRecordFails(t *testing.T) {
	d := newDock(t)
	d.publish("base", "lower")
	d.built(t, "mine", "base", threeSteps...)
	d.aciIDs(t)
	d.faulty.fault = func() error { return errors.New("the disk is full") }
	if got, err := d.steps.PruneBuilds(t.Context(), brig.BuildPruneRequest{All: true}); err == nil || len(got.IDs) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	d.faulty.fault = nil
	if _, cached := d.built(t, "mine", "base", threeSteps...); cached != 3 {
		t.Errorf("%d cached", cached)
	}
}

func TestDoctorOfBuiltImages(t *testing.T) {
	d := newDock(t)
	d.publish("base", "lower")
	d.built(t, "mine", "base", threeSteps...)
	look := func(fix bool) []brig.Finding {
		var out brig.Diagnosis
		if err := d.Examine(t.Context(), brig.Examination{Fix: fix, Deep: true}, &out); err != nil {
			t.Fatal(err)
		}
		return out.Findings
	}
	if f := look(true); len(f) != 0 {
		t.Fatalf("%+v", f)
	}
	img, _ := d.ImageGet(t.Context(), "mine")
	d.layers.mu.Lock()
	delete(d.layers.chains, img.Layers[2].Chain)
	d.layers.mu.Unlock()
	if f := look(true); len(f) != 1 || f[0].Mended || !strings.Contains(f[0].Error, "build the image again") {
		t.Errorf("%+v", f)
	}
	// Once it has been packed it can be made again.
	if err := d.Save(t.Context(), []string{"mine"}, io.Discard); !errs.Is(err, errs.NotFound) {
		t.Errorf("save without the layer: %v", err)
	}
	d.layers.mu.Lock()
	d.layers.chains[img.Layers[2].Chain] = img.Layers[1].Chain
	d.layers.mu.Unlock()
	if err := d.Save(t.Context(), []string{"mine"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	d.layers.mu.Lock()
	delete(d.layers.chains, img.Layers[2].Chain)
	d.layers.mu.Unlock()
	lost := d.trees.at(img.Layers[2].Chain.Hex())
	os.RemoveAll(lost)
	if f := look(true); len(f) != 1 || !f[0].Mended {
		t.Errorf("%+v", f)
	}
	if f := look(true); len(f) != 0 {
		t.Errorf("still: %+v", f)
	}
	if b, err := os.ReadFile(filepath.Join(lost, "two")); string(b) != "two" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestAuthFor(t *testing.T) {
	a := func(u string) brig.Auth { return brig.Auth{Username: u} }
	auths := map[string]brig.Auth{"https://index.docker.io/v1/": a("hub"), "reg.example:5000": a("reg"), "https://other.example/v2/": a("other")}
	for domain, want := range map[string]string{"docker.io": "hub", "reg.example:5000": "reg", "other.example": "other", "reg.example": ""} {
		if got := authFor(auths, domain).Username; got != want {
			t.Errorf("%s: %q, want %q", domain, got, want)
		}
	}
}
