package runtime

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brigd/brig/internal/brig"
)

func TestPoliteWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lull
		var out bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		p := polite{ctx, &l, &out}
		l.begin()
		l.begin()
		var done sync.WaitGroup
		done.Go(func() { p.Write([]byte("a")) })
		for _, want := range []string{"", "", "a"} {
			synctest.Wait()
			if out.String() != want {
				t.Errorf("wrote %q, want %q", &out, want)
			}
			if want == "" {
				l.end()
			}
		}
		done.Wait()
		l.begin()
		done.Go(func() {
			if _, err := p.Write([]byte("b")); !errors.Is(err, context.Canceled) {
				t.Errorf("after the end: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		done.Wait()
	})
}

// TestACIWaits has an image arrive while another's layer is on its way: its ACI is computed when that has landed, and once.
func TestACIWaits(t *testing.T) {
	d := newDock(t)
	var mu sync.Mutex
	var wrote []string
	d.conv.write = func(manifest string) {
		d.mu.Lock()
		n := len(d.flights)
		d.mu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		wrote = append(wrote, manifest)
		if n > 0 {
			t.Errorf("an ACI is computed beside %d flights", n)
		}
	}
	first := d.publish("x:1", "base", "one")
	d.publish("x:2", "two")
	two := d.blob("two").Digest
	reached, gate := make(chan struct{}), make(chan struct{})
	d.registry.fault = func(stage string, dg brig.Digest) error {
		if stage == "layer" && dg == two {
			close(reached)
			<-gate
		}
		return nil
	}
	second := make(chan error)
	go func() { _, err := d.pull(t.Context(), "x:2"); second <- err }()
	<-reached
	d.mustPull(t, "x:1")
	for current := brig.Digest(""); current != first && t.Context().Err() == nil; time.Sleep(time.Millisecond) {
		d.aci.mu.Lock()
		current = d.aci.current
		d.aci.mu.Unlock()
	}
	d.mustPull(t, "x:1")
	close(gate)
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	d.aciIDs(t)
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(wrote)
	if len(wrote) != 2 || wrote[0] == wrote[1] {
		t.Errorf("computed %q", wrote)
	}
}
