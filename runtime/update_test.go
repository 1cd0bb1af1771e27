package runtime

import (
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestUpdate(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	s := spec("sleep")
	s.Limits.Memory = 100
	b.run(t, "one", s)
	to := func(memory int64) func(*brig.Container) error {
		return func(d *brig.Container) error {
			d.Spec.Limits.Memory, d.Spec.Restart.Name, d.Name = memory, "always", "other"
			return nil
		}
	}
	held := func(want int64) {
		t.Helper()
		for _, p := range w.jails {
			if p.limits.Memory != want {
				t.Errorf("the jail is held to %d, want %d", p.limits.Memory, want)
			}
		}
		if got := b.get(t, "one").Spec.Limits.Memory; got != want {
			t.Errorf("the record says %d, want %d", got, want)
		}
	}
	if _, err := b.Update(t.Context(), "one", to(200)); err != nil {
		t.Fatal(err)
	}
	held(200)
	_, err := b.Update(t.Context(), "one", to(13))
	wantErr(t, "what the kernel refuses", err, errs.Internal, "busy")
	held(200)
	_, err = b.Update(t.Context(), "one", func(*brig.Container) error { return errs.New(errs.Invalid, "no") })
	wantErr(t, "what is refused before", err, errs.Invalid, "Cannot update container")
	b.Close()
	b = w.boot(0)
	held(200)
	if p := b.get(t, "one").Spec.Restart.Name; p != "always" {
		t.Errorf("policy %q", p)
	}
	s.AutoRemove = true
	b.make(t, "brief", s)
	_, err = b.Update(t.Context(), "brief", to(100))
	wantErr(t, "a policy for one that removes itself", err, errs.Conflict, "AutoRemove is enabled")
}
