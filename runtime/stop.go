package runtime

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/moby/sys/signal"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// defaultStop is how long a stop waits before it kills, in seconds.
const defaultStop = 10

// watch waits for the container's process and records its end. It belongs to c.work.
func (c *Containers) watch(ct *container, h *brig.Handle) {
	exit, ok := c.await(ct, h)
	if ok {
		c.ended(ct, h, exit, false)
	}
}

// await returns the process's exit; false if Containers closes meanwhile. A jail that can't be waited for is looked at anew
// until it is known to have ended.
func (c *Containers) await(ct *container, h *brig.Handle) (brig.Exit, bool) {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, time.Minute) {
		exit, err := c.cfg.Processes.Wait(c.base, h)
		if err == nil {
			return exit, true
		}
		if c.base.Err() != nil {
			return brig.Exit{}, false
		}
		c.log.Error("wait for a container's process", "container", ct.id.Short(), "err", err)
		running, last, aerr := c.cfg.Jails.Adopt(c.base, h)
		if aerr == nil && !running {
			return lostExit(last, err), true
		}
		if !sleep(c.base, pause) {
			return brig.Exit{}, false
		}
	}
}

// lostExit is what is known of a process that ended unseen: what the exit file says, else 255.
func lostExit(last *brig.Exit, why error) brig.Exit {
	if last != nil {
		return *last
	}
	e := brig.Exit{Code: 255, Time: time.Now().UTC(), Error: "the end of the container's process was not seen"}
	if why != nil {
		e.Error += ": " + why.Error()
	}
	return e
}

// sleep returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ended records the end of a run: it saves the exit before it clears up, since clearing up deletes jailer's own note of it; a
// crash in between leaves what sweeps remove. Waiters learn of it when nothing of the run is left. Then the policy says what comes next.
// With unseen the process ended while no brigd ran: a restart is brigd's own start's, and as in dockerd not counted.
func (c *Containers) ended(ct *container, h *brig.Handle, exit brig.Exit, unseen bool) {
	ctx := context.WithoutCancel(c.base)
	ct.lock <- struct{}{}
	defer ct.lock.release()
	cur := c.record(ct)
	if !cur.State.HasProcess() || cur.Handle == nil {
		return
	}
	ran := c.ran(ct, cur)
	if unseen {
		ran = exit.Time.Sub(cur.StartedAt)
	}
	c.stopProber(ct)
	next := exited(cur, exit)
	again := c.restartWanted(ct, cur, exit)
	to := brig.Exited
	if again {
		to = brig.Restarting
		next.RestartCount++
		if unseen {
			next.RestartCount = 0
		}
	}
	log := c.log.With("container", ct.id.Short())
	if err := move(next, to); err != nil {
		log.Error("record the end of a run", "err", err)
		return
	}
	c.mu.Lock()
	leaves := !again && cur.Spec.AutoRemove && !ct.removing
	ct.removing = ct.removing || leaves
	c.mu.Unlock()
	if !leaves {
		if err := c.save(ctx, ct, next); err != nil {
			log.Error("record the end of a run; it will be found again when brigd starts", "err", err)
		}
	}
	c.mu.Lock()
	ct.rec, ct.jail = next, nil
	c.expectHandler(ct, cur)
	c.mu.Unlock()
	fault.Point("end.recorded")
	if err := c.clear(ctx, ct, cur, h); err != nil {
		log.Error("clear up after a run; the rest is left to the next start of brigd", "err", err)
	}
	fault.Point("end.cleared")
	c.tellEnd(ct, cur, next, exit, ran)
	switch {
	case again:
		c.restartLater(ct, ran)
	case leaves:
		if err := c.destroy(ctx, ct, true); err != nil {
			log.Error("remove a container that ended", "err", err)
			c.mu.Lock()
			ct.removing = false
			c.mu.Unlock()
		}
	}
}

// exited is cur after the end of its run, its state not yet moved.
func exited(cur *brig.Container, exit brig.Exit) *brig.Container {
	next := cur.Clone()
	next.PID, next.Handle, next.ExitCode, next.OOMKilled, next.FinishedAt = 0, nil, exit.Code, exit.OOMKilled, exit.Time
	if next.FinishedAt.IsZero() {
		next.FinishedAt = time.Now().UTC()
	}
	next.Error = exit.Error
	next.Health = unwatched(cur)
	for name, ep := range next.Endpoints {
		next.Endpoints[name] = ep.Rest()
	}
	return next
}

// clear releases what the run of d had, after its post-stop handler; every part is tried. The caller holds ct's lock.
func (c *Containers) clear(ctx context.Context, ct *container, d *brig.Container, h *brig.Handle) error {
	handled := len(d.Spec.PostStop) > 0
	if !handled {
		c.withdraw(ctx, d) // while its addresses are nobody else's
	}
	var detaching sync.WaitGroup
	var derr error
	if d.Pod == "" && !handled {
		detaching.Go(func() { derr = c.part(ctx, d) })
	}
	err := c.cfg.Jails.Destroy(ctx, h)
	fault.Point("end.destroyed")
	if handled {
		c.afterEnd(ctx, ct, d)
		c.withdraw(ctx, d)
	}
	err = errors.Join(err, c.leaveRoot(ctx, ct))
	detaching.Wait()
	if d.Pod != "" || handled { // what several jails share goes after the last of them
		derr = c.part(ctx, d)
	}
	return errors.Join(err, derr)
}

// tellEnd publishes the events of a run's end, in Docker's order, and wakes who waits for it.
func (c *Containers) tellEnd(ct *container, cur, next *brig.Container, exit brig.Exit, ran time.Duration) {
	if exit.OOMKilled {
		c.event(next, "oom")
	}
	c.event(next, "die", "exitCode", strconv.Itoa(exit.Code), "execDuration", strconv.FormatInt(max(0, int64(ran.Seconds())), 10))
	c.leftEvents(cur, true)
	if next.State == brig.Exited {
		c.rest(ct, next)
		return
	}
	c.wakeEnded(ct, next) // as dockerd does: a foreground run of a container that restarts ends with its first run
}

// rest wakes who waits for ct to be no longer active.
func (c *Containers) rest(ct *container, d *brig.Container) {
	c.mu.Lock()
	if ct.idle != nil && !closed(ct.idle) {
		close(ct.idle)
	}
	c.mu.Unlock()
	c.wakeEnded(ct, d)
}

// wakeEnded tells those who wait for the end of a run.
func (c *Containers) wakeEnded(ct *container, d *brig.Container) {
	c.wake(ct, brig.Exit{Code: d.ExitCode, Time: d.FinishedAt, OOMKilled: d.OOMKilled, Error: d.Error}, brig.WaitNotRunning, brig.WaitNextExit)
}

// parseSignal reads a signal's name, with or without SIG, or number; "" is def.
func parseSignal(s string, def syscall.Signal) (syscall.Signal, error) {
	if s == "" {
		return def, nil
	}
	sig, err := signal.ParseSignal(s)
	if err == nil && (sig < 1 || sig > 64) {
		err = errs.New(errs.Invalid, "invalid signal: %s", s)
	}
	return sig, errs.As(errs.Invalid, err)
}

// view returns ct's record, the channel that closes when it is no longer active, and that which ends a wait for a restart.
func (c *Containers) view(ct *container) (d *brig.Container, idle, halt chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ct.rec, ct.idle, ct.halt
}

// stopped marks ct as stopped by a user, so that no policy starts it again.
func (c *Containers) markStopped(ct *container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct.stopped = true
	if ct.halt != nil {
		close(ct.halt)
		ct.halt = nil
	}
}

// Stop ends a container: its stop signal, and after the timeout KILL. It goes on when ctx ends, and returns early when
// Containers closes. NotModified if it doesn't run.
func (c *Containers) Stop(ctx context.Context, ref string, o brig.StopOptions) error {
	ct, err := c.find(ref)
	if err != nil {
		return err
	}
	if d := c.record(ct); !d.State.Active() {
		if was, err := c.stopHandler(context.WithoutCancel(ctx), ct, o); was {
			return err
		}
		return errs.New(errs.NotModified, "container %s is already stopped", d.ID.Short())
	}
	return c.stop(ctx, ct, o)
}

func (c *Containers) stop(ctx context.Context, ct *container, o brig.StopOptions) (err error) {
	defer c.timed("stop", &err)()
	ctx = context.WithoutCancel(ctx)
	d, idle, _ := c.view(ct)
	sig, err := parseSignal(cmp.Or(o.Signal, d.Spec.StopSignal), syscall.SIGTERM)
	if err != nil {
		return err
	}
	if d.State == brig.Restarting {
		if _, err := c.stopHandler(ctx, ct, o); err != nil {
			return err
		}
		if ended, err := c.haltRestart(ctx, ct); err != nil || ended {
			if err == nil {
				c.event(c.record(ct), "stop")
			}
			return err
		}
	}
	if err := c.signal(ctx, ct, sig, true); err != nil && !errs.Is(err, errs.Conflict) {
		c.log.Warn("signal a container to stop; it will be killed", "container", ct.id.Short(), "err", err)
	}
	ended, err := c.waitFor(ctx, idle, stopTimeout(o, &d.Spec))
	if err != nil {
		return err
	}
	if !ended {
		if err := c.kill(ctx, ct); err != nil {
			return err
		}
	}
	c.event(c.record(ct), "stop")
	return nil
}

// stopTimeout is in seconds; negative: for ever.
func stopTimeout(o brig.StopOptions, s *brig.Spec) int {
	switch {
	case o.Timeout != nil:
		return *o.Timeout
	case s.StopTimeout != nil:
		return *s.StopTimeout
	}
	return defaultStop
}

// waitFor waits up to so many seconds, negative for ever, for idle to close.
func (c *Containers) waitFor(ctx context.Context, idle chan struct{}, seconds int) (bool, error) {
	if seconds < 0 {
		return true, c.waitIdle(ctx, idle)
	}
	t := time.NewTimer(time.Duration(seconds) * time.Second)
	defer t.Stop()
	select {
	case <-idle:
		return true, nil
	case <-t.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-c.base.Done():
		return false, errs.New(errs.Unavailable, "brigd is stopping")
	}
}

func (c *Containers) waitIdle(ctx context.Context, idle chan struct{}) error {
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.base.Done():
		return errs.New(errs.Unavailable, "brigd is stopping")
	}
}

// kill sends KILL, to an event handler too, and waits for the end; a container that isn't active is dead already.
func (c *Containers) kill(ctx context.Context, ct *container) error {
	d, idle, _ := c.view(ct)
	if run := c.handles(ct); run != nil {
		c.markStopped(ct)
		if err := c.killHandler(ctx, run); err != nil {
			return err
		}
	}
	if !d.State.Active() {
		return nil
	}
	if d.State == brig.Restarting {
		if ended, err := c.haltRestart(ctx, ct); err != nil || ended {
			return err
		}
	}
	if err := c.signal(ctx, ct, syscall.SIGKILL, true); err != nil && !errs.Is(err, errs.Conflict) {
		return err
	}
	return c.waitHandled(ctx, ct, idle)
}

// haltRestart ends the pause before an automatic restart; ended is false if a start came first, and the container runs.
func (c *Containers) haltRestart(ctx context.Context, ct *container) (ended bool, err error) {
	c.markStopped(ct)
	if err := ct.lock.acquire(ctx); err != nil { // a start that is under way holds it
		return false, err
	}
	d, idle, _ := c.view(ct)
	ct.lock.release()
	if d.State.HasProcess() {
		return false, nil
	}
	return true, c.waitIdle(ctx, idle)
}

// signal sends a signal to the main process and publishes the event. With stops the container shall end by it: no policy restarts
// it, and a paused one is resumed so that the signal gets through.
func (c *Containers) signal(ctx context.Context, ct *container, sig syscall.Signal, stops bool) error {
	d := c.record(ct)
	if !d.State.HasProcess() || d.Handle == nil {
		return errs.New(errs.Conflict, "container %s is not running", d.ID)
	}
	if stops {
		c.markStopped(ct)
		c.saveStopped(ctx, ct, d)
	}
	err := c.cfg.Processes.Signal(ctx, d.Handle, "", int(sig))
	if errs.Is(err, errs.NotFound) { // it has ended, and its watcher is about to say so
		return errs.New(errs.Conflict, "container %s is not running", d.ID)
	}
	if err != nil {
		return errs.Wrap(err, "send signal %d to container %s", int(sig), d.ID.Short())
	}
	fault.Point("signal.sent")
	c.event(d, "kill", "signal", strconv.Itoa(int(sig)))
	if stops && d.State == brig.Paused {
		if err := c.Unpause(ctx, string(d.ID)); err != nil && !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	return nil
}

// saveStopped has the next brigd know of the stop if this one doesn't live to see the end. The signal is sent in any case, also where
// the disk is full. Whoever holds ct's lock for longer records the stop with what else it records.
func (c *Containers) saveStopped(ctx context.Context, ct *container, d *brig.Container) {
	if !restarts(d.Spec.Restart) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := ct.lock.acquire(ctx)
	if err == nil {
		if d = c.record(ct); d.State.HasProcess() {
			err = c.save(ctx, ct, d)
		}
		ct.lock.release()
	}
	if err != nil {
		c.log.Warn("record that a container is stopped by a user", "container", ct.id.Short(), "err", err)
	}
}

// Kill sends a signal, "" for KILL, to a running container; after KILL it waits for the end. In the pause before an automatic restart it ends that.
func (c *Containers) Kill(ctx context.Context, ref, sigName string) (err error) {
	defer c.timed("kill", &err)()
	sig, err := parseSignal(sigName, syscall.SIGKILL)
	if err != nil {
		return err
	}
	ct, err := c.find(ref)
	if err != nil {
		return errs.Wrap(err, "cannot kill container: %s", ref)
	}
	d := c.record(ct)
	if !d.State.Active() && (sig != syscall.SIGKILL || c.handles(ct) == nil) {
		return errs.New(errs.Conflict, "cannot kill container: %s: container %s is not running", ref, d.ID)
	}
	if sig == syscall.SIGKILL {
		return errs.Wrap(c.kill(ctx, ct), "cannot kill container: %s", ref)
	}
	own, err := parseSignal(d.Spec.StopSignal, sig)
	if err != nil {
		return err
	}
	if d.State == brig.Restarting { // no process: what stops it ends the pause, all else is done
		if own != sig {
			return nil
		}
		if ended, err := c.haltRestart(ctx, ct); err != nil || ended {
			return errs.Wrap(err, "cannot kill container: %s", ref)
		}
	}
	return errs.Wrap(c.signal(ctx, ct, sig, own == sig), "cannot kill container: %s", ref)
}

// Restart stops a container if it runs, and starts it.
func (c *Containers) Restart(ctx context.Context, ref string, o brig.StopOptions) (err error) {
	defer c.timed("restart", &err)()
	ct, err := c.find(ref)
	if err != nil {
		return err
	}
	if c.record(ct).State.Active() {
		c.mu.Lock()
		mine := !ct.removing
		ct.removing = true // keeps a container that removes itself
		c.mu.Unlock()
		if !mine {
			return errs.New(errs.Conflict, "removal of container %s is already in progress", ref)
		}
		err := c.stop(ctx, ct, o)
		c.mu.Lock()
		ct.removing = false
		c.mu.Unlock()
		if err != nil {
			return errs.Wrap(err, "Cannot restart container %s", ref)
		}
	}
	if ct, err = c.hold(ctx, string(ct.id)); err != nil {
		return err
	}
	defer ct.lock.release()
	if err := c.startByUser(ctx, ct); err != nil && !errs.Is(err, errs.NotModified) {
		return errs.Wrap(err, "Cannot restart container %s", ref)
	}
	c.event(c.record(ct), "restart")
	return nil
}
