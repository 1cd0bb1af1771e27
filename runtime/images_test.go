package runtime

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

const (
	runID  = brig.ID("aaaaaaaaaaaa0000000000000000000000000000000000000000000000000000")
	stopID = brig.ID("bbbbbbbbbbbb0000000000000000000000000000000000000000000000000000")
)

// TestRemove is dockerd's table of what docker rmi does. The image is pulled as a:1; ID stands for its ID, DIGEST for a@sha256:….
func TestRemove(t *testing.T) {
	for _, c := range []struct {
		name     string
		tags     string // further names
		users    string // run, stop
		ref      string
		force    bool
		want     string // Untagged lines, then "Deleted" if the image went
		err      string
		survives bool
	}{
		{"last name", "", "", "a:1", false, "a:1 DIGEST Deleted", "", false},
		{"one of two names", "b:1", "", "b:1", false, "b:1", "", true},
		{"one of two tags of a repository", "a:2", "", "a:1", false, "a:1", "", true},
		{"last tag of the pulled repository takes its digest along", "b:1", "", "a:1", false, "a:1 DIGEST", "", true},
		{"digest", "", "", "DIGEST", false, "DIGEST", "", true},
		{"by ID", "", "", "ID", false, "a:1 DIGEST Deleted", "", false},
		{"by short ID", "", "", "SHORT", false, "a:1 DIGEST Deleted", "", false},
		{"by ID, two tags", "a:2", "", "ID", false, "", "conflict: unable to delete SHORT (must be forced) - image is referenced in multiple repositories", true},
		{"by ID, two repositories", "b:1", "", "ID", false, "", "conflict: unable to delete SHORT (must be forced) - image is referenced in multiple repositories", true},
		{"by ID, two repositories, forced", "b:1", "", "ID", true, "a:1 DIGEST b:1 Deleted", "", false},
		{"running", "", "run", "a:1", false, "", `conflict: unable to remove repository reference "a:1" (must force) - container aaaaaaaaaaaa is using its referenced image SHORT`, true},
		{"stopped", "", "stop", "a:1", false, "", `conflict: unable to remove repository reference "a:1" (must force) - container bbbbbbbbbbbb is using its referenced image SHORT`, true},
		{"running, one of two names", "b:1", "run", "b:1", false, "b:1", "", true},
		{"running, forced: the names alone go", "", "run", "a:1", true, "a:1 DIGEST", "", true},
		{"stopped, forced", "", "stop", "a:1", true, "a:1 DIGEST Deleted", "", false},
		{"running, by ID", "", "run", "ID", false, "", "conflict: unable to delete SHORT (cannot be forced) - image is being used by running container aaaaaaaaaaaa", true},
		{"running, by ID, forced", "", "run stop", "ID", true, "", "conflict: unable to delete SHORT (cannot be forced) - image is being used by running container aaaaaaaaaaaa", true},
		{"stopped, by ID", "", "stop", "ID", false, "", "conflict: unable to delete SHORT (must be forced) - image is being used by stopped container bbbbbbbbbbbb", true},
		{"stopped, by ID, forced", "", "stop", "ID", true, "a:1 DIGEST Deleted", "", false},
		{"no such", "", "", "nosuch", true, "", "No such image: nosuch:latest", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDock(t)
			id := d.publish("a:1", "base", "top")
			d.mustPull(t, "a:1")
			for _, tag := range strings.Fields(c.tags) {
				if err := d.ImageTag(t.Context(), "a:1", tag, ""); err != nil {
					t.Fatal(err)
				}
			}
			users := []ImageUser{{ID: "cc", Image: "sha256:other", Running: true}}
			for _, u := range strings.Fields(c.users) {
				users = append(users, map[string]ImageUser{"run": {ID: runID, Image: id, Running: true}, "stop": {ID: stopID, Image: id}}[u])
			}
			d.SetUsers(func() []ImageUser { return users })
			words := strings.NewReplacer("DIGEST", "a@"+string(d.registry.remotes["docker.io/library/a:1"].Digest), "SHORT", shortDigest(id), "ID", string(id))
			got, err := d.ImageRemove(t.Context(), words.Replace(c.ref), c.force, false)
			if c.err != "" {
				if err == nil || err.Error() != words.Replace(c.err) || errs.KindOf(err) == errs.Internal {
					t.Errorf("error %v, want %s", err, words.Replace(c.err))
				}
			} else if err != nil {
				t.Fatal(err)
			}
			chains := d.layerChains("base", "top")
			want := strings.ReplaceAll(words.Replace(c.want), "Deleted", fmt.Sprintf("-%s -%s -%s", id, chains[1], chains[0]))
			if g := answer(got); g != want {
				t.Errorf("answer %s\nwant %s", g, want)
			}
			if _, err := d.ImageGet(t.Context(), string(id)); (err == nil) != c.survives {
				t.Errorf("afterwards: %v", err)
			}
			if !c.survives {
				d.clear(t)
			}
		})
	}
}

func (d *dock) layerChains(contents ...string) []brig.Digest {
	var diffs []brig.Digest
	for _, c := range contents {
		diffs = append(diffs, brig.DigestOf([]byte(c)))
	}
	return brig.ChainIDs(diffs)
}

func answer(l []brig.ImageDeleted) string {
	var out []string
	for _, x := range l {
		if x.Untagged != "" {
			out = append(out, x.Untagged)
		} else {
			out = append(out, "-"+x.Deleted)
		}
	}
	return strings.Join(out, " ")
}

// TestRemoveShared keeps the layers that another image needs.
func TestRemoveShared(t *testing.T) {
	d := newDock(t)
	d.publish("a:1", "base", "one")
	d.publish("b:1", "base", "two", "three")
	d.mustPull(t, "a:1", "b:1")
	got, err := d.ImageRemove(t.Context(), "b:1", false, false)
	if err != nil {
		t.Fatal(err)
	}
	three := d.layerChains("base", "two", "three")
	if g := answer(got); !strings.HasSuffix(g, fmt.Sprintf("-%s -%s", three[2], three[1])) {
		t.Errorf("answer %s", g)
	}
	if l := d.layers.list(); !slices.Contains(l, three[0]) || len(l) != 2 {
		t.Errorf("chains %v", l)
	}
	if _, err := d.ImageRemove(t.Context(), "a:1", false, false); err != nil {
		t.Fatal(err)
	}
	d.clear(t)
}

// TestFailedDrop has one layer that can't be dropped: the image goes, with all else, and the layer with the next removal or start.
func TestFailedDrop(t *testing.T) {
	for _, again := range []string{"reap", "restart", "pull"} {
		t.Run(again, func(t *testing.T) {
			d := newDock(t)
			d.publish("a:1", "base", "middle", "top")
			d.mustPull(t, "a:1")
			d.aciIDs(t)
			chains := d.layerChains("base", "middle", "top")
			d.layers.mu.Lock()
			d.layers.stuck[chains[1]] = true
			d.layers.mu.Unlock()
			got, err := d.ImageRemove(t.Context(), "a:1", false, false)
			if err != nil || !strings.HasSuffix(answer(got), "-"+string(chains[2])) {
				t.Errorf("answer %s, %v", answer(got), err)
			}
			if l := d.layers.list(); len(l) != 2 {
				t.Errorf("chains %v", l)
			}
			if b, _ := d.Blobs.List(); len(b) != 0 {
				t.Errorf("blobs stay: %v", b)
			}
			d.layers.mu.Lock()
			clear(d.layers.stuck)
			d.layers.mu.Unlock()
			switch again {
			case "reap":
				d.Reap(t.Context())
			case "restart":
				d.shut()
				d.open(t)
			case "pull":
				d.mustPull(t, "a:1")
				if _, err := d.ImageRemove(t.Context(), "a:1", false, false); err != nil {
					t.Error(err)
				}
			}
			d.clear(t)
		})
	}
}

func TestRecordsFail(t *testing.T) {
	d := newDock(t)
	id := d.publish("a:1", "base")
	d.mustPull(t, "a:1")
	d.aciIDs(t)
	d.faulty.fault = func() error { return errors.New("disk full") }
	if _, err := d.ImageRemove(t.Context(), "a:1", false, false); err == nil {
		t.Error("removed without a record")
	}
	if err := d.ImageTag(t.Context(), "a:1", "b", "1"); err == nil {
		t.Error("tagged without a record")
	}
	d.faulty.fault = nil
	if info, err := d.ImageGet(t.Context(), "a:1"); err != nil || info.ID != id || len(info.Tags) != 1 {
		t.Errorf("image %v, %v", info, err)
	}
	if _, err := d.ImageRemove(t.Context(), "a:1", false, false); err != nil {
		t.Error(err)
	}
	d.clear(t)
}

func TestTagMoves(t *testing.T) {
	d := newDock(t)
	a := d.publish("a:1", "base", "one")
	b := d.publish("b:1", "base", "two")
	d.mustPull(t, "a:1", "b:1")
	for _, ref := range []string{"a:1", "b:1"} {
		if err := d.ImageTag(t.Context(), ref, "x", ""); err != nil {
			t.Fatal(err)
		}
	}
	for ref, id := range map[string]brig.Digest{"x": b, "a:1": a} {
		if info, err := d.ImageGet(t.Context(), ref); err != nil || info.ID != id {
			t.Errorf("%s: %v, %v", ref, info, err)
		}
	}
	d.publish("a:1", "base", "new")
	lines, err := d.pull(t.Context(), "a:1")
	if err != nil || lines[len(lines)-1] != "Status: Downloaded newer image for a:1" {
		t.Errorf("%q, %v", lines, err)
	}
	if info, err := d.ImageGet(t.Context(), string(a)); err != nil || len(info.Tags) != 0 {
		t.Errorf("the old image: %+v, %v", info, err)
	}
	for ref, want := range map[string]string{"nosuch": "No such image: nosuch:latest", "a:1": "invalid reference format"} {
		if err := d.ImageTag(t.Context(), ref, map[bool]string{true: "X"}[ref == "a:1"]+"x", ""); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("tag %s: %v", ref, err)
		}
	}
}

func TestEventsOfImages(t *testing.T) {
	d := newDock(t)
	id := string(d.publish("a:1", "base"))
	d.mustPull(t, "a:1")
	if err := d.ImageTag(t.Context(), "a:1", "b", "2"); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(t.Context(), []string{"a:1"}, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"b:2", "a:1"} {
		if _, err := d.ImageRemove(t.Context(), ref, false, false); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err := d.Bus.Events(t.Context(), time.Time{}, time.Now(), nil, func(e brig.Event) error {
		if (e.Attributes["of"] == "a:1") == (e.Action == "delete") || e.Type != "image" { // dockerd has no labels where the image is gone
			t.Errorf("event without the image's label, or with one: %+v", e)
		}
		got = append(got, e.Action+" "+strings.ReplaceAll(e.ActorID+" "+e.Attributes["name"], id, "ID"))
		return nil
	})
	want := "pull a:1 a|tag ID b:2|save ID ID|untag ID ID|untag ID ID|delete ID ID"
	if s := strings.Join(got, "|"); err != nil || s != want {
		t.Errorf("events %s, %v\nwant %s", s, err, want)
	}
}

func TestHistory(t *testing.T) {
	d := newDock(t)
	id := d.publish("a:1", "base", "topmost")
	d.mustPull(t, "a:1")
	h, err := d.ImageHistory(t.Context(), "a:1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range h {
		got = append(got, fmt.Sprintf("%s %s %d %v", strings.ReplaceAll(x.ID, string(id), "ID"), x.CreatedBy, x.Size, x.Tags))
	}
	want := "ID ENV 0 [a:1]|<missing> ADD t 7 []|<missing> ENV 0 []|<missing> ADD b 4 []"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("history %s\nwant %s", s, want)
	}
}

func TestACI(t *testing.T) {
	d := newDock(t)
	d.publish("a:1", "base", "top")
	d.mustPull(t, "a:1")
	d.aciIDs(t)
	var b bytes.Buffer
	if err := d.ExportACI(t.Context(), "a:1", &b); err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(b.Bytes())
	info, _ := d.ImageGet(t.Context(), "a:1")
	if info.ACI.ID != "sha512-"+hex.EncodeToString(sum[:]) || info.ACI.Name != "aci/docker.io/library/a:1" {
		t.Errorf("ACI %+v", info.ACI)
	}
	if m, err := d.ImageBlob(t.Context(), "a:1", "aci"); err != nil || !strings.HasPrefix(b.String(), string(m)) {
		t.Errorf("manifest %s, %v", m, err)
	}
	if _, err := d.ImageBlob(t.Context(), "a:1", "passwd"); !errs.Is(err, errs.Invalid) {
		t.Errorf("another kind: %v", err)
	}
	if len(d.roots.roots) != 0 {
		t.Errorf("clones stay: %v", d.roots.roots)
	}
}

func TestUsersAreCounted(t *testing.T) {
	d := newDock(t)
	id := d.publish("a:1", "base")
	d.mustPull(t, "a:1")
	d.SetUsers(func() []ImageUser { return []ImageUser{{Image: id}, {Image: id, Running: true}, {Image: "other"}} })
	info, err := d.ImageGet(t.Context(), "a:1")
	list, _ := d.ImageList(t.Context())
	if err != nil || info.Containers != 2 || list[0].Containers != 2 {
		t.Errorf("counts %v, %v", info, err)
	}
}

// TestWith checks that a removal waits for a use, then sees what the use made, and that its ctx ends the waiting.
func TestWith(t *testing.T) {
	d := newDock(t)
	id := d.publish("a:1", "base")
	d.mustPull(t, "a:1")
	var users []ImageUser
	d.SetUsers(func() []ImageUser { return users })
	removed := make(chan error, 1)
	err := d.With(t.Context(), "a:1", "linux/amd64", func(img *brig.Image) error {
		if img.ID != id {
			t.Errorf("image %s", img.ID)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.ImageRemove(ctx, "a:1", true, false); !errs.Is(err, errs.Canceled) {
			t.Errorf("an impatient removal: %v", err)
		}
		go func() { _, err := d.ImageRemove(t.Context(), "a:1", false, false); removed <- err }()
		for !d.beingRemoved(id) {
			time.Sleep(time.Millisecond)
		}
		users = append(users, ImageUser{ID: stopID, Image: id})
		return errors.New("kept")
	})
	if err == nil || err.Error() != "kept" {
		t.Errorf("With returned %v", err)
	}
	if err := <-removed; !errs.Is(err, errs.Conflict) {
		t.Errorf("the removal: %v", err)
	}
	for _, c := range [][3]string{
		{"a:1", "linux/arm64", "image with reference a:1 was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)"},
		{"nosuch:2", "", "No such image: nosuch:2"},
	} {
		err := d.With(t.Context(), c[0], c[1], func(*brig.Image) error { t.Error("used"); return nil })
		if !errs.Is(err, errs.NotFound) || err.Error() != c[2] {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func (d *dock) beingRemoved(id brig.Digest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.images[id].removing
}

// TestWithWaitsForRemoval lets a use wait while a removal is decided, and then finds the image or not.
func TestWithWaitsForRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &imageEntry{img: &brig.Image{ID: brig.DigestOf(nil)}, removing: true}
		i := &Images{images: map[brig.Digest]*imageEntry{e.img.ID: e}, refs: refTable{"docker.io/library/a:1": e.img.ID}, changed: make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- i.With(t.Context(), "a:1", "", func(*brig.Image) error { return nil }) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("it did not wait: %v", err)
		default:
		}
		i.mu.Lock()
		delete(i.images, e.img.ID)
		delete(i.refs, "docker.io/library/a:1")
		e.removing = false
		i.notify()
		i.mu.Unlock()
		if err := <-done; !errs.Is(err, errs.NotFound) {
			t.Errorf("after the removal: %v", err)
		}
	})
}
