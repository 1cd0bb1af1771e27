//go:build !linux && !freebsd

package jailer

import (
	"context"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// A Jailer makes no jails on this system yet: each of its methods returns NotImplemented.
type Jailer struct{}

var errNotHere = errs.New(errs.NotImplemented, "brig makes no jails on this system yet")

// New returns NotImplemented.
func New(Config) (*Jailer, error) { return nil, errNotHere }

// Facts returns nothing.
func (*Jailer) Facts() Facts { return Facts{} }

// Create returns NotImplemented.
func (*Jailer) Create(context.Context, *brig.Jail) (*brig.Handle, []string, error) {
	return nil, nil, errNotHere
}

// Adopt returns NotImplemented.
func (*Jailer) Adopt(context.Context, *brig.Handle) (bool, *brig.Exit, error) {
	return false, nil, errNotHere
}

// Destroy returns NotImplemented.
func (*Jailer) Destroy(context.Context, *brig.Handle) error { return errNotHere }

// Sweep returns NotImplemented.
func (*Jailer) Sweep(context.Context, []*brig.Handle) error { return errNotHere }

// Warnings has none.
func (*Jailer) Warnings(*brig.Spec) []string { return nil }

// Close has nothing to end.
func (*Jailer) Close() error { return nil }

// Expect has nothing to prepare.
func (*Jailer) Expect() {}

// Pids returns NotImplemented.
func (*Jailer) Pids(context.Context, *brig.Handle) ([]int, error) { return nil, errNotHere }

// Start returns NotImplemented.
func (*Jailer) Start(context.Context, *brig.Handle) error { return errNotHere }

// Exec returns NotImplemented.
func (*Jailer) Exec(context.Context, *brig.Handle, *brig.Jail, brig.ID, brig.ExecSpec, brig.IO) (int, <-chan brig.Exit, error) {
	return 0, nil, errNotHere
}

// Attach returns NotImplemented.
func (*Jailer) Attach(context.Context, *brig.Handle, brig.IO) error { return errNotHere }

// Signal returns NotImplemented.
func (*Jailer) Signal(context.Context, *brig.Handle, brig.ID, int) error { return errNotHere }

// Wait returns NotImplemented.
func (*Jailer) Wait(context.Context, *brig.Handle) (brig.Exit, error) {
	return brig.Exit{}, errNotHere
}

// Resize returns NotImplemented.
func (*Jailer) Resize(context.Context, *brig.Handle, brig.ID, uint, uint) error { return errNotHere }

// Stats returns NotImplemented.
func (*Jailer) Stats(context.Context, *brig.Handle) (brig.Sample, error) {
	return brig.Sample{}, errNotHere
}

// Pause returns NotImplemented.
func (*Jailer) Pause(context.Context, *brig.Handle) error { return errNotHere }

// Resume returns NotImplemented.
func (*Jailer) Resume(context.Context, *brig.Handle) error { return errNotHere }

// Limit returns NotImplemented.
func (*Jailer) Limit(context.Context, *brig.Handle, *brig.Limits) error { return errNotHere }

// MakeSandbox returns NotImplemented.
func (*Jailer) MakeSandbox(context.Context, *brig.Sandbox) error { return errNotHere }

// DropSandbox returns NotImplemented.
func (*Jailer) DropSandbox(context.Context, brig.ID) error { return errNotHere }

// SweepSandboxes returns NotImplemented.
func (*Jailer) SweepSandboxes(context.Context, []brig.ID) error { return errNotHere }

// Found finds nothing.
func (*Jailer) Found() []*brig.Handle { return nil }
