package main

import (
	"context"

	"github.com/brigd/brig/build"
	brt "github.com/brigd/brig/runtime"
)

var (
	_ build.Session  = (*brt.StepSession)(nil)
	_ build.Workshop = workshop{}
)

// workshop makes a session what build calls one: runtime doesn't know that package's interfaces.
type workshop struct{ *brt.Steps }

// Begin begins a session.
func (w workshop) Begin(ctx context.Context) (build.Session, error) {
	s, err := w.Steps.Begin(ctx)
	if err != nil {
		return nil, err // and no session, rather than one of a nil pointer
	}
	return s, nil
}
