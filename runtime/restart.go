package runtime

import (
	"context"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/fault"
)

// Automatic restarts wait firstBackoff, then twice as long each time up to maxBackoff; after a run of steadyRun they begin anew.
const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = time.Minute
	steadyRun    = 10 * time.Second
)

// restarts reports whether the policy ever restarts anything.
func restarts(p brig.RestartPolicy) bool { return p.Name != "" && p.Name != "no" }

// restartWanted applies ct's policy to the end of a run.
func (c *Containers) restartWanted(ct *container, d *brig.Container, exit brig.Exit) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ct.stopped || ct.removing || d.Tree != "" {
		return false
	}
	switch p := d.Spec.Restart; p.Name {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return exit.Code != 0 && (p.MaxRetries == 0 || d.RestartCount < p.MaxRetries)
	}
	return false
}

// restartLater starts the wait for the next automatic start, after a run that lasted ran. The caller holds ct's lock.
func (c *Containers) restartLater(ct *container, ran time.Duration) {
	switch {
	case ran >= steadyRun || ct.backoff == 0:
		ct.backoff = firstBackoff
	default:
		ct.backoff = min(2*ct.backoff, maxBackoff)
	}
	c.restartAfter(ct, ct.backoff)
}

// restartAfter starts ct, which is Restarting, after a pause; a halt leaves it exited. The caller holds ct's lock.
func (c *Containers) restartAfter(ct *container, pause time.Duration) {
	halt := make(chan struct{})
	c.mu.Lock()
	if ct.stopped { // since the policy was asked
		close(halt)
	} else {
		ct.halt = halt
	}
	c.mu.Unlock()
	c.work.Go(func() {
		t := time.NewTimer(pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-halt:
		case <-c.base.Done():
			return // the next brigd goes on with it
		}
		select {
		case <-c.whole: // the sweep would take what starts now for something that nobody knows
		case <-c.base.Done():
			return
		}
		ct.lock <- struct{}{}
		defer ct.lock.release()
		c.restart(ct, halt)
	})
}

// restart starts ct again unless it has been halted. The caller holds ct's lock.
func (c *Containers) restart(ct *container, halt chan struct{}) {
	cur := c.record(ct)
	if cur.State != brig.Restarting {
		return
	}
	ctx := context.WithoutCancel(c.base)
	c.mu.Lock()
	ct.halt = nil
	c.mu.Unlock()
	if !closed(halt) {
		fault.Point("restart.waited")
		err := c.start(ctx, ct, cur.Clone())
		if err == nil {
			return
		}
		if c.base.Err() != nil {
			return // a handler was cut short: the next brigd goes on with it
		}
		c.log.Error("restart a container", "container", ct.id.Short(), "err", err)
		failed := c.record(ct).Clone()
		failed.ExitCode, err = startCode(err)
		failed.Error = err.Error()
		c.show(ct, failed)
	}
	next := c.record(ct).Clone()
	if err := move(next, brig.Exited); err != nil {
		c.log.Error("end a restart", "container", ct.id.Short(), "err", err)
		return
	}
	if err := c.commit(ctx, ct, next); err != nil {
		c.log.Error("record the end of a restart", "container", ct.id.Short(), "err", err)
		c.show(ct, next)
	}
	c.endPending(ct)
	c.rest(ct, next)
}
