package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestPullReport(t *testing.T) {
	d := newDock(t)
	d.publish("x:1", "base", "top")
	d.publish("x:2", "base", "other")
	d.registry.remotes["docker.io/library/y:1"] = d.registry.remotes["docker.io/library/x:1"]
	short := func(content string) string { return shortDigest(d.blob(content).Digest) }
	base, top, other := short("base"), short("top"), short("other")
	digest := func(ref string) string { return string(d.registry.remotes["docker.io/library/"+ref].Digest) }
	for _, c := range []struct {
		ref  string
		want []string // in order for each id; the ids of layers are interleaved freely
	}{
		{"x:1", []string{"1: Pulling from library/x", base + ": Pulling fs layer", top + ": Pulling fs layer",
			base + ": Verifying Checksum", base + ": Download complete", base + ": Pull complete",
			top + ": Verifying Checksum", top + ": Download complete", top + ": Pull complete",
			"Digest: " + digest("x:1"), "Status: Downloaded newer image for x:1"}},
		{"x:1", []string{"1: Pulling from library/x", "Digest: " + digest("x:1"), "Status: Image is up to date for x:1"}},
		{"x:2", []string{"2: Pulling from library/x", base + ": Already exists", other + ": Pulling fs layer",
			other + ": Verifying Checksum", other + ": Download complete", other + ": Pull complete",
			"Digest: " + digest("x:2"), "Status: Downloaded newer image for x:2"}},
		{"y:1", []string{"1: Pulling from library/y", "Digest: " + digest("x:1"), "Status: Downloaded newer image for y:1"}},
		{"x@" + digest("x:1"), []string{"docker.io/library/x@" + digest("x:1") + ": Pulling from library/x", "Digest: " + digest("x:1"),
			"Status: Image is up to date for x@" + digest("x:1")}},
	} {
		lines, err := d.pull(t.Context(), c.ref)
		if err != nil {
			t.Fatalf("%s: %v", c.ref, err)
		}
		if got, want := byID(lines), byID(c.want); got != want {
			t.Errorf("%s reports\n%s\nwant\n%s", c.ref, got, want)
		}
	}
	info, err := d.ImageGet(t.Context(), "x:1")
	if err != nil || info.Size != int64(len("base")+len("top")) || !slices.Equal(info.Tags, []string{"x:1", "y:1"}) || len(info.Digests) != 2 {
		t.Errorf("image %+v, %v", info, err)
	}
	list, _ := d.ImageList(t.Context())
	if len(list) != 2 {
		t.Errorf("%d images", len(list))
	}
}

// byID sorts lines by what is before the colon, and keeps their order otherwise.
func byID(lines []string) string {
	key := func(s string) string { return s[:min(12, len(s))] }
	lines = slices.Clone(lines)
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(key(a), key(b)) })
	return strings.Join(lines, "\n")
}

func TestPullBytes(t *testing.T) {
	d := newDock(t)
	var content strings.Builder
	for n := range 100000 {
		fmt.Fprintln(&content, n*7919)
	}
	d.publish("x:1", content.String())
	last := map[string]brig.Progress{}
	seen := []string{}
	err := d.Pull(t.Context(), brig.PullRequest{Name: "x", Tag: "1"}, func(p brig.Progress) {
		if p.Total > 0 && p.Current > p.Total || p.Current < last[p.Status].Current {
			t.Errorf("bytes %+v after %+v", p, last[p.Status])
		}
		last[p.Status] = p
		if p.ID == shortDigest(d.registry.remotes["docker.io/library/x:1"].Layers[0].Digest) && !slices.Contains(seen, p.Status) {
			seen = append(seen, p.Status)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := last["Downloading"]; p.Total == 0 || p.Current != p.Total {
		t.Errorf("the last bytes are %+v", p)
	}
	if n := slices.Index(seen, "Extracting"); n >= 0 && n < slices.Index(seen, "Download complete") {
		t.Errorf("order %v", seen)
	}
}

func TestPullAll(t *testing.T) {
	d := newDock(t)
	d.publish("x:1", "base", "one")
	d.publish("x:2", "base", "two")
	d.publish("other:1", "base", "three")
	var lines []string
	err := d.Pull(t.Context(), brig.PullRequest{Name: "x", All: true}, func(p brig.Progress) { lines = append(lines, line(p)) })
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{"1: Pulling from library/x", "2: Pulling from library/x", "Status: Downloaded newer image for x"} {
		if !strings.Contains(all, want) {
			t.Errorf("the report lacks %q:\n%s", want, all)
		}
	}
	if list, _ := d.ImageList(t.Context()); len(list) != 2 {
		t.Errorf("%d images", len(list))
	}
	var events []string
	err = d.Bus.Events(t.Context(), time.Time{}, time.Now(), nil, func(e brig.Event) error { events = append(events, e.Action+" "+e.ActorID); return nil })
	if err != nil || strings.Join(events, "|") != "pull x" {
		t.Errorf("events %q, %v", events, err)
	}
}

func TestPullSurvivesRestart(t *testing.T) {
	d := newDock(t)
	id := d.publish("x:1", "base", "top")
	d.mustPull(t, "x:1")
	d.aciIDs(t)
	before, _ := d.ImageList(t.Context())
	if _, err := d.Blobs.PutBytes(t.Context(), []byte("what a crash left")); err != nil {
		t.Fatal(err)
	}
	d.layers.chains["sha256:left"] = ""
	d.shut()
	d.open(t)
	after, _ := d.ImageList(t.Context())
	a, _ := json.Marshal(before)
	b, _ := json.Marshal(after)
	if string(a) != string(b) {
		t.Errorf("before %s\nafter %s", a, b)
	}
	if l := d.layers.list(); len(l) != 2 {
		t.Errorf("chains %v", l)
	}
	if l, _ := d.Blobs.List(); len(l) != 5 { // config, manifest, aci, two layers
		t.Errorf("blobs %v", l)
	}
	if b, err := d.ImageBlob(t.Context(), "x:1", "config"); err != nil || brig.DigestOf(b) != id {
		t.Errorf("config %s, %v", b, err)
	}
}

// aciIDs waits until the background has computed all of them.
func (d *dock) aciIDs(t *testing.T) {
	t.Helper()
	for t.Context().Err() == nil {
		list, _ := d.ImageList(t.Context())
		if !slices.ContainsFunc(list, func(i brig.ImageInfo) bool { return i.ACI.ID == "" }) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestPullFails breaks the registry or the engine in every way: the error says how, and nothing stays.
func TestPullFails(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name  string
		spoil func(d *dock, r *brig.Remote)
		err   string
	}{
		{"no such image", func(d *dock, r *brig.Remote) { clear(d.registry.remotes) }, "manifest unknown"},
		{"lost layer", func(d *dock, r *brig.Remote) { delete(d.registry.bytes, r.Layers[1].Digest) }, "blob unknown"},
		{"lying digest", func(d *dock, r *brig.Remote) { d.registry.bytes[r.Layers[1].Digest][20] ^= 1 }, "filesystem layer verification failed for digest sha256:"},
		{"too many bytes", func(d *dock, r *brig.Remote) {
			d.registry.bytes[r.Layers[0].Digest] = append(d.registry.bytes[r.Layers[0].Digest], "more"...)
		}, "more than the announced"},
		{"always truncated", func(d *dock, r *brig.Remote) {
			d.registry.bytes[r.Layers[2].Digest] = d.registry.bytes[r.Layers[2].Digest][:15]
		}, "unexpected EOF"},
		{"connection breaks always", func(d *dock, r *brig.Remote) {
			d.registry.body = func(brig.Digest, int, []byte) io.Reader { return failing{boom} }
		}, "boom"},
		{"other tree than the config says", func(d *dock, r *brig.Remote) { d.spoilDiff(r, 1) }, "the layer's tar has the digest"},
		{"fewer layers than the config says", func(d *dock, r *brig.Remote) { r.Layers = r.Layers[:2] }, "2 layers, but its config names 3"},
		{"config is no JSON", func(d *dock, r *brig.Remote) { r.Config = []byte("{") }, "unexpected end of JSON"},
		{"no gzip", func(d *dock, r *brig.Remote) {
			b := []byte("this is not compressed at all")
			r.Layers[0] = brig.Descriptor{Digest: brig.DigestOf(b), Size: int64(len(b))}
			d.registry.bytes[r.Layers[0].Digest] = b
		}, "decompress layer"},
		{"store fails", func(d *dock, r *brig.Remote) {
			top := brig.ChainIDs([]brig.Digest{brig.DigestOf([]byte("base")), brig.DigestOf([]byte("middle"))})[1]
			d.layers.fault = func(stage string, c brig.Digest) error {
				if stage == "applied" && c == top {
					return boom
				}
				return nil
			}
		}, "boom"},
		{"no appc manifest", func(d *dock, r *brig.Remote) { d.conv.fault = func() error { return boom } }, "boom"},
		{"records fail", func(d *dock, r *brig.Remote) { d.faulty.fault = func() error { return boom } }, "boom"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDock(t)
			d.publish("x:1", "base", "middle", "top")
			c.spoil(d, d.registry.remotes["docker.io/library/x:1"])
			_, err := d.pull(t.Context(), "x:1")
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %s", err, c.err)
			}
			d.clear(t)
		})
	}
}

// spoilDiff has the config name another diffID for layer n.
func (d *dock) spoilDiff(r *brig.Remote, n int) {
	var c imgConfig
	json.Unmarshal(r.Config, &c)
	c.RootFS.Diffs[n] = brig.DigestOf([]byte("something else"))
	r.Config, _ = json.Marshal(c)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestPullResumes has every connection end after 7 bytes more than the one before: the download goes on where it broke off.
func TestPullResumes(t *testing.T) {
	d := newDock(t)
	d.publish("x:1", "base")
	var offsets []int
	d.registry.body = func(dg brig.Digest, nth int, rest []byte) io.Reader {
		offsets = append(offsets, len(d.registry.bytes[dg])-len(rest))
		return io.MultiReader(strings.NewReader(string(rest[:min(7, len(rest))])), failing{io.ErrUnexpectedEOF})
	}
	d.registry.remotes["docker.io/library/x:1"].Layers[0].Size = int64(len(d.registry.bytes[d.blob("base").Digest]))
	lines, err := d.pull(t.Context(), "x:1")
	if err != nil {
		t.Fatal(err)
	}
	for n, off := range offsets {
		if off != 7*n {
			t.Errorf("offsets %v", offsets)
		}
	}
	if !strings.Contains(strings.Join(lines, "\n"), "Retrying in 1 second") {
		t.Errorf("no retry is reported: %q", lines)
	}
}

// TestPullCanceled ends the client's context at each stage: the pull ends with Canceled, and nothing stays.
func TestPullCanceled(t *testing.T) {
	for _, stage := range []string{"resolve", "layer", "body", "apply", "applied", "aci", "records"} {
		for nth := 1; nth <= 3; nth++ {
			if nth > 1 && stage == "records" {
				break // later ones are the background's
			}
			t.Run(fmt.Sprint(stage, nth), func(t *testing.T) {
				d := newDock(t)
				d.publish("x:1", "base", "middle", "top")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var mu sync.Mutex
				count := 0
				reach := func(s string) error {
					mu.Lock()
					defer mu.Unlock()
					if s == stage {
						if count++; count == nth {
							cancel()
						}
					}
					return nil
				}
				d.registry.fault = func(s string, _ brig.Digest) error { return reach(s) }
				d.registry.body = func(_ brig.Digest, _ int, rest []byte) io.Reader {
					return readerFunc(func(p []byte) (int, error) {
						reach("body")
						if len(rest) == 0 {
							return 0, io.EOF
						}
						n := copy(p[:1], rest)
						rest = rest[n:]
						return n, nil
					})
				}
				d.layers.fault = func(s string, _ brig.Digest) error { return reach(s) }
				d.conv.fault = func() error { return reach("aci") }
				d.faulty.fault = func() error { return reach("records") }
				_, err := d.pull(ctx, "x:1")
				if ctx.Err() == nil {
					if err != nil {
						t.Errorf("not canceled, yet %v", err)
					}
					return
				}
				if !errs.Is(err, errs.Canceled) {
					t.Errorf("error %v", err)
				}
				d.clear(t)
			})
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestPullsShare runs many pulls of overlapping images at once: each layer is downloaded once, and removing the images leaves nothing.
func TestPullsShare(t *testing.T) {
	d := newDock(t)
	const images, each = 5, 4
	for n := range images {
		d.publish(fmt.Sprintf("x:%d", n), "base", "middle", fmt.Sprintf("%d own", n))
	}
	var all sync.WaitGroup
	for n := range images * each {
		all.Go(func() {
			if _, err := d.pull(t.Context(), fmt.Sprintf("x:%d", n%images)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for dg, offs := range d.registry.opened {
		if len(offs) != 1 {
			t.Errorf("layer %s was downloaded at %v", dg, offs)
		}
	}
	if l := d.layers.list(); len(l) != images+2 {
		t.Errorf("%d chains", len(l))
	}
	for n := range images {
		all.Go(func() {
			if _, err := d.ImageRemove(t.Context(), fmt.Sprintf("x:%d", n), false, false); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	d.clear(t)
}

// TestPullLeavesSharedFlight cancels one of two pulls that wait for the same layer: the other gets it all the same, and the download
// is not begun again.
func TestPullLeavesSharedFlight(t *testing.T) {
	d := newDock(t)
	d.publish("x:1", "base", "one")
	d.publish("x:2", "base", "two")
	base := d.blob("base").Digest
	gate, reached := make(chan struct{}), make(chan struct{})
	d.registry.fault = func(stage string, dg brig.Digest) error {
		if stage == "layer" && dg == base {
			close(reached)
			<-gate
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error)
	go func() { _, err := d.pull(ctx, "x:1"); first <- err }()
	<-reached
	joined := make(chan struct{})
	go func() {
		err := d.Pull(t.Context(), brig.PullRequest{Name: "x:2"}, func(p brig.Progress) {
			if p.ID == shortDigest(base) && p.Status == "Pulling fs layer" {
				close(joined)
			}
		})
		second <- err
	}()
	<-joined
	cancel()
	if err := <-first; !errs.Is(err, errs.Canceled) {
		t.Errorf("the canceled pull: %v", err)
	}
	close(gate)
	if err := <-second; err != nil {
		t.Errorf("the other pull: %v", err)
	}
	if n := len(d.registry.opened[base]); n != 1 {
		t.Errorf("the shared layer was opened %d times", n)
	}
	if l := d.layers.list(); len(l) != 2 {
		t.Errorf("chains %v", l)
	}
	if _, err := d.ImageRemove(t.Context(), "x:2", false, false); err != nil {
		t.Error(err)
	}
	d.clear(t)
}

// TestPullStorm pulls, cancels and removes overlapping images at random moments; in the end nothing may be left but what was pulled.
func TestPullStorm(t *testing.T) {
	d := newDock(t)
	for n := range 4 {
		d.publish(fmt.Sprintf("x:%d", n), "base", fmt.Sprintf("%d middle", n/2), fmt.Sprintf("%d own", n))
	}
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for k := range 25 {
				ref := fmt.Sprintf("x:%d", (n+k)%4)
				ctx, cancel := context.WithCancel(t.Context())
				seen := 0
				err := d.Pull(ctx, brig.PullRequest{Name: ref}, func(brig.Progress) {
					if seen++; (n+k)%3 == 0 && seen == 1+k%7 {
						cancel()
					}
				})
				if err != nil && !errs.Is(err, errs.Canceled) {
					t.Errorf("pull %s: %v", ref, err)
				}
				if k%2 == 0 {
					if _, err := d.ImageRemove(t.Context(), ref, true, false); err != nil && !errs.Is(err, errs.NotFound) {
						t.Errorf("remove %s: %v", ref, err)
					}
				}
				cancel()
			}
		})
	}
	all.Wait()
	list, _ := d.ImageList(t.Context())
	for _, info := range list {
		for _, x := range info.Layers {
			if has, _ := d.layers.Has(t.Context(), x.Chain); !has || !d.Blobs.Has(x.Blob.Digest) {
				t.Errorf("image %s lacks layer %s", info.ID, x.Chain)
			}
		}
		if _, err := d.ImageRemove(t.Context(), string(info.ID), true, false); err != nil {
			t.Error(err)
		}
	}
	d.clear(t)
}
