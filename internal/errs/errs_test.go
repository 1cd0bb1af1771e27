package errs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestKindOf(t *testing.T) {
	base := New(NotFound, "No such container: %s", "x")
	for _, c := range []struct {
		name string
		err  error
		want Kind
		text string
	}{
		{"plain", errors.New("boom"), Internal, "boom"},
		{"new", base, NotFound, "No such container: x"},
		{"wrapped", Wrap(base, "start %s", "x"), NotFound, "start x: No such container: x"},
		{"outermost wins", As(Conflict, base), Conflict, "No such container: x"},
		{"canceled", fmt.Errorf("pull: %w", context.Canceled), Canceled, "pull: context canceled"},
		{"joined", errors.Join(errors.New("a"), base), NotFound, "a\nNo such container: x"},
	} {
		if got := KindOf(c.err); got != c.want {
			t.Errorf("%s: kind %v, want %v", c.name, got, c.want)
		}
		if c.err.Error() != c.text {
			t.Errorf("%s: text %q, want %q", c.name, c.err, c.text)
		}
	}
	if !errors.Is(New(Invalid, "open: %w", fs.ErrNotExist), fs.ErrNotExist) {
		t.Error("New with %w hides its cause")
	}
	if As(Invalid, nil) != nil || Wrap(nil, "x") != nil || Is(nil, Internal) {
		t.Error("nil must stay nil and be of no kind")
	}
}
