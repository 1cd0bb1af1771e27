package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// ward is an engine with two images, a container and a volume, to be damaged.
type ward struct {
	*engine
	t    *testing.T
	root *testRoot
	ref  string
	ct   *brig.Container
	vol  *brig.Volume
}

func newWard(t *testing.T) *ward {
	t.Helper()
	r := newTestRoot(t, "overlay")
	e, _ := r.open(t)
	shelf := newShelf(t)
	w := &ward{engine: e, t: t, root: r, ref: shelf.put(t, "a", "low", "high")}
	e.mustPull(t, w.ref)
	e.mustPull(t, shelf.put(t, "b", "low", "other"))
	id, _, err := e.containers.Create(t.Context(), brig.CreateRequest{Name: "patient", Spec: brig.Spec{Image: w.ref}})
	if err == nil {
		w.ct, err = e.containers.Get(t.Context(), string(id))
	}
	if err == nil {
		w.vol, err = e.containers.VolumeCreate(t.Context(), brig.VolumeSpec{Name: "vol"})
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ACI IDs", func() bool {
		list, err := e.images.ImageList(t.Context())
		return err == nil && len(list) == 2 && list[0].ACI.ID != "" && list[1].ACI.ID != ""
	})
	t.Cleanup(func() { e.containers.Remove(t.Context(), "patient", brig.RemoveOptions{Force: true}) })
	return w
}

// examine lists faults, notes left out, as "check: problem".
func (w *ward) examine(o brig.Examination) (out []string) {
	w.t.Helper()
	d, err := (&housekeeper{e: w.engine}).Examine(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range d.Findings {
		if f.Note {
			continue
		}
		out = append(out, f.Check+" "+f.Subject+": "+f.Problem)
		if o.Fix != f.Mended {
			w.t.Errorf("%s %s: %s: mended %v %s", f.Check, f.Subject, f.Problem, f.Mended, f.Error)
		}
	}
	return out
}

func (w *ward) path(elem ...string) string {
	return filepath.Join(append([]string{w.root.dir}, elem...)...)
}

func (w *ward) write(elem ...string) {
	w.t.Helper()
	p := w.path(elem...)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err == nil {
		err = os.WriteFile(p, []byte("damaged"), 0o600)
		if err == nil {
			return
		}
	}
	w.t.Fatal("write ", p)
}

func (w *ward) remove(elem ...string) {
	w.t.Helper()
	p := w.path(elem...)
	if _, err := os.Lstat(p); err != nil {
		w.t.Fatal(err)
	}
	if err := os.RemoveAll(p); err != nil {
		w.t.Fatal(err)
	}
}

// image is the damaged image; its layers' directories are found by what is in them.
func (w *ward) image() *brig.ImageInfo {
	w.t.Helper()
	i, err := w.images.ImageGet(w.t.Context(), w.ref)
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

func (w *ward) layerWith(file string) string {
	w.t.Helper()
	found, _ := filepath.Glob(w.path("store", "l", "*", "diff", file))
	if len(found) != 1 {
		w.t.Fatalf("%q is in %d layers", file, len(found))
	}
	return filepath.Base(filepath.Dir(filepath.Dir(found[0])))
}

const ridX = "00000000000000ee"

// Each kind of damage, made by hand under a brigd that runs: the doctor names it, mends it, and finds nothing afterwards.
var damages = []struct {
	name   string
	damage func(w *ward)
	want   string // in the findings
	deep   bool
}{
	{"nothing", func(*ward) {}, "", true},
	{"layer", func(w *ward) { w.remove("store", "l", w.layerWith("high")) }, "gone or damaged", false},
	{"lower layer's tree", func(w *ward) { w.remove("store", "l", w.layerWith("low"), "diff") }, "gone or damaged", false},
	{"layer's record", func(w *ward) { w.write("store", "l", w.layerWith("high"), "layer.json") }, "gone or damaged", false},
	{"blob of a layer", func(w *ward) { w.remove("blobs", "sha256", w.image().Layers[1].Blob.Digest.Hex()) }, "is missing", false},
	{"config", func(w *ward) { w.remove("blobs", "sha256", w.image().ID.Hex()) }, "its config", false},
	{"appc manifest", func(w *ward) { w.remove("blobs", "sha256", w.image().ACI.Manifest.Hex()) }, "its appc manifest", false},
	{"changed blob", func(w *ward) { w.write("blobs", "sha256", w.image().Layers[0].Blob.Digest.Hex()) }, "changed on disk", true},
	{"blob and layer", func(w *ward) {
		w.remove("blobs", "sha256", w.image().Layers[1].Blob.Digest.Hex())
		w.remove("store", "l", w.layerWith("high"))
	}, "gone or damaged", false},
	{"blob that nobody needs", func(w *ward) { w.write("blobs", "sha256", strings.Repeat("ab", 32)) }, "nobody needs", false},
	{"layer that nobody names", func(w *ward) { w.write("store", "l", ridX, "diff", "x") }, "no record names it", false},
	{"root that nobody names", func(w *ward) { w.write("store", "c", ridX, "upper", "x") }, "no record names it", false},
	{"volume that nobody names", func(w *ward) { w.write("store", "v", ridX, "x") }, "no record names it", false},
	{"root of a container", func(w *ward) { w.remove("store", "c", string(w.ct.RootFS)) }, "its root file system is gone", false},
	{"data of a volume", func(w *ward) { w.remove("store", "v", string(w.vol.Dataset)) }, "its data is gone", false},
	{"folder of no container", func(w *ward) { w.write("containers", strings.Repeat("ab", 32), "hosts") }, "no record", false},
	{"run of no container", func(w *ward) { w.write("run", ridX, "config.json") }, "belongs to no container", false},
	{"run of one at rest", func(w *ward) { w.write("run", string(w.ct.RootFS), "config.json") }, "doesn't run", false},
	{"namespace of no container", func(w *ward) { w.write("netns", "abcdefabcdefabcd") }, "belongs to no container", false},
	{"stale mount", func(w *ward) {
		if _, err := w.store.Mount(w.t.Context(), w.ct.RootFS); err != nil {
			w.t.Fatal(err)
		}
	}, "is mounted", false},
	{"mount of no container", func(w *ward) {
		dir := w.path("store", "mnt", ridX)
		w.must("mkdir", dir)
		w.must("mount", "-t", "tmpfs", "none", dir)
	}, "no container", false},
	{"link of no container", func(w *ward) {
		w.must("ip", "link", "add", "v"+w.engine.root.instance[:4]+"-deadbeef", "type", "veth", "peer", "name", "p"+w.engine.root.instance)
	}, "belongs to no container", false},
	{"cgroup of no container", func(w *ward) {
		w.must("mkdir", "-p", "/sys/fs/cgroup/pids/brig-"+w.engine.root.instance+"/left")
	}, "belongs to no container", false},
}

func (w *ward) must(argv ...string) {
	w.t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		w.t.Skipf("%v: %s", argv, out)
	}
}

func TestDoctor(t *testing.T) {
	w := newWard(t)
	for _, c := range damages {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			c.damage(w)
			o := brig.Examination{Deep: c.deep}
			found := w.examine(o)
			if c.want == "" && len(found) > 0 || !strings.Contains(strings.Join(found, "\n"), c.want) {
				t.Errorf("the doctor says %q, want %q", found, c.want)
			}
			if again := w.examine(o); fmt.Sprint(again) != fmt.Sprint(found) {
				t.Errorf("looking changed something: %q, then %q", found, again)
			}
			o.Fix = true
			w.examine(o)
			if left := w.examine(brig.Examination{Deep: true}); len(left) > 0 {
				t.Errorf("after mending: %q", left)
			}
			checkWhole(t, w.engine, w.root, 1)
		})
	}
}

func TestCollectOnlyCountsWhenDry(t *testing.T) {
	w := newWard(t)
	w.write("blobs", "sha256", strings.Repeat("ab", 32))
	w.write("store", "c", ridX, "upper", "x")
	h := &housekeeper{e: w.engine}
	for _, dry := range []bool{true, false, true} {
		got, err := h.Collect(t.Context(), dry)
		if err != nil {
			t.Fatal(err)
		}
		said := fmt.Sprint(got.Blobs, got.BlobBytes, got.Leftovers, got.Waiting)
		if want := map[bool]string{true: "1 7 1 0", false: "0 0 0 0"}[w.there()]; dry && said != want {
			t.Errorf("dry: %s, want %s", said, want)
		}
		if !dry && (said != "1 7 1 0" || w.there()) {
			t.Errorf("collected %s; there %v", said, w.there())
		}
	}
	if left := w.examine(brig.Examination{Deep: true}); len(left) > 0 {
		t.Errorf("afterwards: %q", left)
	}
}

func (w *ward) there() bool {
	_, err := os.Stat(w.path("store", "c", ridX))
	return err == nil
}
