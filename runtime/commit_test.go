package runtime

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// A makerSeam makes an image of a container.
type makerSeam func(n brig.NewImage, layer func(context.Context, io.Writer) error) (brig.Digest, string, error)

func (m makerSeam) MakeImage(_ context.Context, n brig.NewImage, layer func(context.Context, io.Writer) error) (brig.Digest, string, error) {
	return m(n, layer)
}

func TestCommitLayer(t *testing.T) {
	w := newWorld(t)
	w.setup = func(root string) {
		os.Mkdir(filepath.Join(root, "etc"), 0o755)
		os.WriteFile(filepath.Join(root, "new"), []byte("x"), 0o644)
	}
	w.changed = []brig.Change{
		{Path: "/.dockerenv", Kind: brig.ChangeAdded}, {Path: "/etc", Kind: brig.ChangeModified}, {Path: "/etc/hosts", Kind: brig.ChangeAdded},
		{Path: "/gone", Kind: brig.ChangeDeleted}, {Path: "/new", Kind: brig.ChangeAdded},
	}
	var got brig.NewImage
	var names []string
	w.maker = func(n brig.NewImage, layer func(context.Context, io.Writer) error) (brig.Digest, string, error) {
		got = n
		var b bytes.Buffer
		if err := layer(t.Context(), &b); err != nil {
			return "", "", err
		}
		for r := tar.NewReader(&b); ; {
			h, err := r.Next()
			if err == io.EOF {
				return "sha256:made", "r:1", nil
			}
			if err != nil {
				return "", "", err
			}
			names = append(names, h.Name)
		}
	}
	b := w.boot(0)
	s := spec("sleep")
	s.Labels = map[string]string{"l": "m"}
	id := b.make(t, "one", s)
	made, err := b.Commit(t.Context(), brig.CommitRequest{Container: "one", Repository: "r", Tag: "1", Author: "a", Comment: "c", Pause: true, Changes: []string{"ENV X=y", "USER u"}})
	if err != nil || made != "sha256:made" {
		t.Fatalf("%s, %v", made, err)
	}
	want := brig.NewImage{
		Parent: w.image.ID, Platform: w.image.Platform, Repository: "r", Tag: "1", Author: "a", Comment: "c", CreatedBy: "sleep",
		Config: brig.ImageConfig{User: "u", Env: []string{"PATH=/bin", "X=y"}, Cmd: []string{"sleep"}, Labels: map[string]string{"l": "m"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("asked for %+v\nwant %+v", got, want)
	}
	if !slices.Equal(names, []string{".wh.gone", "new"}) {
		t.Errorf("the layer has %v", names)
	}
	e := w.events[len(w.events)-1]
	if e.Action != "commit" || e.ActorID != string(id) || e.Attributes["imageID"] != "sha256:made" || e.Attributes["imageRef"] != "r:1" || e.Attributes["comment"] != "c" {
		t.Errorf("event %+v", e)
	}
	if len(w.mounted) != 0 {
		t.Errorf("mounts stay: %v", w.mounted)
	}
}

func TestCommitRefuses(t *testing.T) {
	w := newWorld(t)
	w.maker = func(brig.NewImage, func(context.Context, io.Writer) error) (brig.Digest, string, error) {
		t.Error("an image was made")
		return "", "", nil
	}
	b := w.boot(0)
	b.make(t, "one", spec("sleep"))
	for what, c := range map[string]struct {
		r    brig.CommitRequest
		kind errs.Kind
		text string
	}{
		"container": {brig.CommitRequest{Container: "nosuch"}, errs.NotFound, "No such container"},
		"name":      {brig.CommitRequest{Container: "one", Repository: "UP"}, errs.Invalid, "must be lowercase"},
		"change":    {brig.CommitRequest{Container: "one", Changes: []string{"RUN x"}}, errs.Invalid, "RUN is not a valid change command"},
	} {
		_, err := b.Commit(t.Context(), c.r)
		wantErr(t, what, err, c.kind, c.text)
	}
}

// While the image is made a running container is frozen and shown as paused; afterwards it runs, whether the commit worked or not.
func TestCommitFreezes(t *testing.T) {
	for _, c := range []struct {
		name   string
		pause  bool
		before string // "", "paused", "created"
		during func(b *brigd)
		fail   error
		seen   brig.State
		after  brig.State
	}{
		{"pause", true, "", nil, nil, brig.Paused, brig.Running},
		{"no pause", false, "", nil, nil, brig.Running, brig.Running},
		{"failure", true, "", nil, errors.New("boom"), brig.Paused, brig.Running},
		{"paused already", true, "paused", nil, nil, brig.Paused, brig.Paused},
		{"not running", true, "created", nil, nil, brig.Created, brig.Created},
		{"unpaused by a user", true, "", func(b *brigd) { b.Unpause(t.Context(), "one") }, nil, brig.Running, brig.Running},
		{"killed", true, "", func(b *brigd) { b.Kill(t.Context(), "one", "") }, nil, brig.Exited, brig.Exited},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			var b *brigd
			var seen brig.State
			w.maker = func(brig.NewImage, func(context.Context, io.Writer) error) (brig.Digest, string, error) {
				if c.during != nil {
					c.during(b)
				}
				seen = b.get(t, "one").State
				return "sha256:made", "", c.fail
			}
			b = w.boot(0)
			if c.before == "created" {
				b.make(t, "one", spec("sleep"))
			} else {
				b.run(t, "one", spec("sleep"))
			}
			if c.before == "paused" {
				if err := b.Pause(t.Context(), "one"); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := b.Commit(t.Context(), brig.CommitRequest{Container: "one", Pause: c.pause}); !errors.Is(err, c.fail) {
				t.Errorf("%v, want %v", err, c.fail)
			}
			if after := b.get(t, "one").State; seen != c.seen || after != c.after {
				t.Errorf("during %s, after %s; want %s and %s", seen, after, c.seen, c.after)
			}
			for _, p := range w.jails {
				if p.frozen != (c.after == brig.Paused) {
					t.Errorf("frozen: %v", p.frozen)
				}
			}
		})
	}
}

// A brigd that dies during a commit leaves a frozen container; the next one lets it go on.
func TestCommitCrash(t *testing.T) {
	w := newWorld(t)
	var b *brigd
	w.maker = func(brig.NewImage, func(context.Context, io.Writer) error) (brig.Digest, string, error) {
		b.mu.Lock()
		b.fatal = b.steps + 1
		b.mu.Unlock()
		return "", "", errCrashed
	}
	b = w.boot(0)
	b.run(t, "one", spec("sleep"))
	if _, err := b.Commit(t.Context(), brig.CommitRequest{Container: "one", Pause: true}); err == nil {
		t.Error("no error")
	}
	frozen := 0
	for _, p := range w.jails {
		if p.frozen {
			frozen++
		}
	}
	if frozen != 1 {
		t.Fatalf("%d frozen: the test is at fault", frozen)
	}
	next := w.boot(0)
	if s := next.get(t, "one").State; s != brig.Running {
		t.Errorf("state %s", s)
	}
	for _, p := range w.jails {
		if p.frozen {
			t.Error("stays frozen")
		}
	}
	if !strings.Contains(strings.Join(w.actions(), " "), "container pause") {
		t.Error("no event")
	}
}
