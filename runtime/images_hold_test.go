package runtime

import (
	"context"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// TestRetryWakesNobody has a container stand on what nobody else needs. The release says that its drop failed, by which the reaper wakes; what the reaper
// then tries again says nothing, or it would never rest.
func TestRetryWakesNobody(t *testing.T) {
	tried, woken := 0, 0
	k := newKeeper(func(context.Context, brig.Digest) error {
		tried++
		return errs.New(errs.Conflict, "a container stands on it")
	})
	k.failed = func() { woken++ }
	k.hold("a")
	if dropped, err := k.release(t.Context(), "a"); dropped || !errs.Is(err, errs.Conflict) {
		t.Errorf("released: %v, %v", dropped, err)
	}
	for range 3 {
		if err := k.retry(t.Context()); !onlyConflicts(err) || err == nil {
			t.Errorf("tried again: %v", err)
		}
		k.dropUnheld(t.Context(), "a")
	}
	if tried != 7 || woken != 1 {
		t.Errorf("tried %d times, want 7; woke the reaper %d times, want once", tried, woken)
	}
}
