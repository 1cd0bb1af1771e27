package runtime

import (
	"testing"
	"testing/synctest"

	"github.com/brigd/brig/internal/brig"
)

// TestRemoveDuringStart lets a start come between the kill and the removal of rm -f.
func TestRemoveDuringStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWorld(t).boot(0)
		b.make(t, "one", spec("sleep"))
		ct, err := b.find("one")
		if err != nil {
			t.Fatal(err)
		}
		if err := ct.lock.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		removed := make(chan error, 1)
		go func() { removed <- b.Containers.Remove(t.Context(), "one", brig.RemoveOptions{Force: true}) }()
		synctest.Wait() // it has found nothing to kill, and waits for the lock
		if err := b.startByUser(t.Context(), ct); err != nil {
			t.Fatal(err)
		}
		ct.lock.release()
		if err := <-removed; err != nil {
			t.Error(err)
		}
		b.checkNothingLeft(t)
		b.Close()
	})
}
