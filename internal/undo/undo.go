// Package undo is a stack of steps that take back what a failed operation had done.
//
//	var u undo.Stack
//	defer u.Run(ctx, &err)
//	if err := mkdir(); err != nil { return err }
//	u.Push("remove directory", rmdir)
//	…
//	u.Release()
package undo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// limit bounds all steps of one Run together, since the operation's own context may be over already.
const limit = 30 * time.Second

type step struct {
	what string
	do   func(context.Context) error
}

// A Stack holds undo steps; its zero value is empty. It is for one goroutine.
type Stack struct{ steps []step }

// Push adds a step that Run executes before those pushed earlier.
func (s *Stack) Push(what string, do func(context.Context) error) {
	s.steps = append(s.steps, step{what, do})
}

// Release drops all steps: the operation succeeded.
func (s *Stack) Release() { s.steps = nil }

// Run executes the steps, last first, each one whatever became of the others, and joins their failures to *err.
// The steps' context keeps ctx's values but not its end.
func (s *Stack) Run(ctx context.Context, err *error) {
	if len(s.steps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	for i := len(s.steps) - 1; i >= 0; i-- {
		if e := s.steps[i].do(ctx); e != nil {
			*err = errors.Join(*err, fmt.Errorf("undo: %s: %w", s.steps[i].what, e))
		}
	}
	s.steps = nil
}
