package runtime

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// noise is a layer that doesn't compress.
func noise(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{3}).Read(b)
	return string(b)
}

// TestPullRanges downloads a large layer from registries that do ranges, that don't, and that break off now and then.
func TestPullRanges(t *testing.T) {
	content := noise(rangesFrom + rangeSize/2)
	for _, c := range []struct {
		name   string
		ranges bool
		breaks bool
		least  int // requests
	}{{"ranges", true, false, 5}, {"no ranges", false, false, 1}, {"broken ranges", true, true, 6}, {"broken stream", false, true, 2}} {
		t.Run(c.name, func(t *testing.T) {
			d := newDock(t)
			d.publish("x:1", content)
			d.registry.ranges = c.ranges
			if c.breaks {
				d.registry.body = func(_ brig.Digest, nth int, rest []byte) io.Reader {
					if nth%2 == 0 {
						return readerOf(rest)
					}
					return io.MultiReader(readerOf(rest[:min(len(rest), 1<<20)]), failing{io.ErrUnexpectedEOF})
				}
			}
			d.mustPull(t, "x:1")
			blob := d.registry.remotes["docker.io/library/x:1"].Layers[0]
			offsets := d.registry.opened[blob.Digest]
			if len(offsets) < c.least {
				t.Errorf("requests at %v", offsets)
			}
			if slices.Sort(offsets); !c.breaks && len(slices.Compact(offsets)) != len(offsets) {
				t.Errorf("something was fetched twice: %v", offsets)
			}
			if _, err := d.ImageRemove(t.Context(), "x:1", false, false); err != nil {
				t.Error(err)
			}
			d.clear(t)
		})
	}
}

func readerOf(b []byte) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if len(b) == 0 {
			return 0, io.EOF
		}
		n := copy(p, b)
		b = b[n:]
		return n, nil
	})
}

// TestPullGoesOn cancels a pull in the middle of a layer, restarts, and pulls again: what was there isn't fetched again, unless it has changed.
func TestPullGoesOn(t *testing.T) {
	const cut = 2 << 20
	for _, rotten := range []bool{false, true} {
		t.Run(fmt.Sprint("rotten ", rotten), func(t *testing.T) {
			d := newDock(t)
			d.publish("x:1", noise(4<<20))
			blob := d.registry.remotes["docker.io/library/x:1"].Layers[0]
			ctx, cancel := context.WithCancel(t.Context())
			d.registry.body = func(_ brig.Digest, _ int, rest []byte) io.Reader {
				return io.MultiReader(readerOf(rest[:cut]), readerFunc(func([]byte) (int, error) { cancel(); return 0, ctx.Err() }))
			}
			if _, err := d.pull(ctx, "x:1"); !errs.Is(err, errs.Canceled) {
				t.Fatal(err)
			}
			d.shut()
			if rotten {
				w, err := d.Blobs.Resume(t.Context(), blob.Digest, blob.Size)
				if err != nil || w.Have() != cut {
					t.Fatalf("%d bytes, %v", w.Have(), err)
				}
				if _, err := w.WriteAt([]byte("rot"), 1<<20); err != nil {
					t.Fatal(err)
				}
				w.Abort()
			}
			d.registry.body, d.registry.opened = nil, map[brig.Digest][]int64{}
			d.open(t)
			d.mustPull(t, "x:1")
			want := []int64{cut}
			if rotten {
				want = []int64{cut, 0}
			}
			if got := d.registry.opened[blob.Digest]; !slices.Equal(got, want) {
				t.Errorf("fetched from %v, want %v", got, want)
			}
			if !d.layers.synced {
				t.Error("an image was recorded before its layers were synced")
			}
			if _, err := d.ImageRemove(t.Context(), "x:1", false, false); err != nil {
				t.Error(err)
			}
			d.clear(t)
		})
	}
}

// TestLayersOutOfOrder holds the lowest layer's bytes back until all others have been read: they are, and are committed after it.
func TestLayersOutOfOrder(t *testing.T) {
	d := newDock(t)
	d.publish("x:1", "base", "middle", "top")
	base := d.blob("base").Digest
	read := make(chan struct{}, 2)
	d.layers.fault = func(stage string, chain brig.Digest) error {
		if stage == "applied" && chain != brig.DigestOf([]byte("base")) {
			read <- struct{}{}
		}
		return nil
	}
	d.registry.fault = func(stage string, dg brig.Digest) error {
		if stage == "layer" && dg == base {
			for range 2 {
				select {
				case <-read:
				case <-t.Context().Done():
					return t.Context().Err()
				}
			}
		}
		return nil
	}
	d.mustPull(t, "x:1")
	if l := d.layers.list(); len(l) != 3 {
		t.Errorf("chains %v", l)
	}
}
