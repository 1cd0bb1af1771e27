package zfsstore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// ahead applies a layer on a parent that isn't there yet. It returns its chain, the function that ends the waiting, and what Apply will return.
func (b *bench) ahead(parent brig.Digest, entries ...string) (chain brig.Digest, ready func(error), done <-chan error) {
	data := tarball(entries...)
	diff := brig.DigestOf(data)
	chain = brig.ChainID(parent, diff)
	there, end := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := b.Apply(b.t.Context(), parent, chain, diff, bytes.NewReader(data), func(ctx context.Context) error {
			select {
			case err := <-there:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		end <- err
	}()
	return chain, func(err error) { there <- err }, end
}

// TestLayersFromTheTop begins with the top layer: chains come to be from the bottom up all the same.
func TestLayersFromTheTop(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		base := tarball("d d", "f d/a 1", "f gone 1")
		lowest := brig.DigestOf(base)
		middleTar := []string{"f d/b 2", "f .wh.gone", "h d/c d/a"} // asks for what lies beneath
		middle := brig.ChainID(lowest, brig.DigestOf(tarball(middleTar...)))
		top, topReady, topDone := b.ahead(middle, "d e", "f e/f 3")
		_, middleReady, middleDone := b.ahead(lowest, middleTar...)
		if _, err := b.Apply(t.Context(), "", lowest, lowest, bytes.NewReader(base), nil); err != nil {
			t.Fatal(err)
		}
		if ok, _ := b.Has(t.Context(), middle); ok {
			t.Error("a layer is there before it knows that its parent is")
		}
		middleReady(nil)
		b.check(<-middleDone)
		topReady(nil)
		b.check(<-topDone)
		b.check(b.Sync(t.Context()))
		_, p := b.run(top)
		if got, want := show(t, p), "d/ d/a=1 d/b=2 d/c=1 e/ e/f=3"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// TestLayerBelowFails has the lower layer never come, or not be there though it was said to be.
func TestLayerBelowFails(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		none := brig.DigestOf([]byte("none"))
		boom := errors.New("boom")
		chain, ready, done := b.ahead(none, "f a 1")
		ready(boom)
		if err := <-done; !errors.Is(err, boom) {
			t.Errorf("the lower layer failed: %v", err)
		}
		_, ready, done = b.ahead(none, "f a 1")
		ready(nil)
		b.kind("no lower layer", <-done, errs.NotFound)
		if ok, _ := b.Has(t.Context(), chain); ok {
			t.Error("a layer on nothing is there")
		}
		for _, d := range []string{"l", "w"} {
			if list, _ := os.ReadDir(filepath.Join(b.cfg.Root, d)); len(list) > 0 {
				t.Errorf("a failed layer left %s/%s", d, list[0].Name())
			}
		}
	})
}
