package runtime

import (
	"slices"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

func TestCreateTellsWhatTheHostCannotGive(t *testing.T) {
	b := newWorld(t).boot(0)
	s := spec("true")
	s.Privileged = true
	_, warnings, err := b.Create(t.Context(), brig.CreateRequest{Spec: s})
	if err != nil || !slices.Equal(warnings, []string{"no privileges here"}) {
		t.Errorf("warnings %q, %v", warnings, err)
	}
}
