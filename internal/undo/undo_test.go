package undo

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestRunsBackwardsThroughFailures(t *testing.T) {
	var order []string
	op := func(ctx context.Context) (err error) {
		var u Stack
		defer u.Run(ctx, &err)
		for _, name := range []string{"a", "b", "c"} {
			u.Push(name, func(ctx context.Context) error {
				if ctx.Err() != nil {
					t.Errorf("step %s sees the operation's ended context", name)
				}
				order = append(order, name)
				if name == "b" {
					return errors.New("stuck")
				}
				return nil
			})
		}
		return errors.New("failed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := op(ctx)
	if !slices.Equal(order, []string{"c", "b", "a"}) {
		t.Errorf("order %v", order)
	}
	if !strings.Contains(err.Error(), "failed") || !strings.Contains(err.Error(), "undo: b: stuck") {
		t.Errorf("error %q lacks the cause or the failed step", err)
	}
}

func TestRelease(t *testing.T) {
	var u Stack
	var err error
	u.Push("x", func(context.Context) error { t.Error("ran after Release"); return nil })
	u.Release()
	u.Run(t.Context(), &err)
	if err != nil {
		t.Error(err)
	}
}
