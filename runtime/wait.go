package runtime

import (
	"context"
	"slices"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// waiter is one Wait that has not been answered.
type waiter struct {
	cond brig.WaitCondition
	ch   chan brig.Exit // room for one
	stop func() bool    // ends the watch over the context
}

// Wait registers a waiter and returns its channel, which gives one Exit, or is closed when ctx ends. An exit is told after
// it has been saved, a removal when nothing is left.
func (c *Containers) Wait(ctx context.Context, ref string, cond brig.WaitCondition) (<-chan brig.Exit, error) {
	switch cond {
	case "":
		cond = brig.WaitNotRunning
	case brig.WaitNotRunning, brig.WaitNextExit, brig.WaitRemoved:
	default:
		return nil, errs.New(errs.Invalid, "invalid condition: %q", string(cond))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ct, err := c.findLocked(ref)
	if err != nil {
		return nil, err
	}
	w := &waiter{cond: cond, ch: make(chan brig.Exit, 1)}
	d := ct.rec
	ending := ct.idle != nil && !closed(ct.idle) // also for a while after the record says so: its post-stop handler may run
	if cond == brig.WaitNotRunning && !d.State.Active() && !ending {
		w.ch <- brig.Exit{Code: d.ExitCode, Time: d.FinishedAt, OOMKilled: d.OOMKilled, Error: d.Error}
		return w.ch, nil
	}
	ct.waiters = append(ct.waiters, w)
	w.stop = context.AfterFunc(ctx, func() { c.unwait(ct, w) })
	return w.ch, nil
}

// unwait closes the channel of a waiter that is still registered.
func (c *Containers) unwait(ct *container, w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(ct.waiters, w); i >= 0 {
		ct.waiters = slices.Delete(ct.waiters, i, i+1)
		close(w.ch)
	}
}

// wake answers the waiters with one of the conditions.
func (c *Containers) wake(ct *container, e brig.Exit, conds ...brig.WaitCondition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct.waiters = slices.DeleteFunc(ct.waiters, func(w *waiter) bool {
		if !slices.Contains(conds, w.cond) {
			return false
		}
		w.ch <- e
		w.stop()
		return true
	})
}
