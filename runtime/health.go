package runtime

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// What a health check has where nothing is said, and how much of its results is kept. Docker's numbers.
const (
	probeInterval      = 30 * time.Second
	probeTimeout       = 30 * time.Second
	probeStartInterval = 5 * time.Second
	probeRetries       = 3
	probeLog           = 5    // results
	probeOutput        = 4096 // bytes of each
)

// killWait bounds how long the order to kill a probe may take.
const killWait = 5 * time.Second

// probeArgs returns the command of a container's health check; nil if it has none or it is switched off.
func probeArgs(s *brig.Spec) []string {
	if s.Health == nil || len(s.Health.Test) < 2 {
		return nil
	}
	switch args := s.Health.Test[1:]; s.Health.Test[0] {
	case "CMD":
		return args
	case "CMD-SHELL":
		if len(s.Shell) > 0 {
			return slices.Concat(s.Shell, args)
		}
		return slices.Concat([]string{"/bin/sh", "-c"}, args)
	}
	return nil
}

// freshHealth is the health of a run that begins; old results stay in its log. Nil without a health check.
func freshHealth(d *brig.Container) *brig.Health {
	if probeArgs(&d.Spec) == nil {
		return nil
	}
	h := &brig.Health{Status: brig.HealthStarting}
	if d.Health != nil {
		h.Log = d.Health.Log
	}
	return h
}

// unwatched is d's health while nobody probes it: like dockerd, brig then says "unhealthy". Nil stays nil.
func unwatched(d *brig.Container) *brig.Health {
	if d.Health == nil {
		return nil
	}
	h := *d.Health
	h.Status = brig.HealthUnhealthy
	return &h
}

// startProber watches over the health of a run, if its container has a check. The caller holds ct's lock; stopProber ends it.
func (c *Containers) startProber(ct *container, d *brig.Container) {
	c.stopProber(ct)
	args := probeArgs(&d.Spec)
	if args == nil || d.Handle == nil || d.State != brig.Running {
		return
	}
	ctx, stop := context.WithCancel(c.base)
	ct.probing = stop
	c.work.Go(func() { c.prober(ctx, ct, d, args) })
}

// stopProber tells ct's prober to end, and doesn't wait for it. The caller holds ct's lock.
func (c *Containers) stopProber(ct *container) {
	if ct.probing != nil {
		ct.probing()
		ct.probing = nil
	}
}

// prober probes until ctx ends. d is the record with which the run began.
func (c *Containers) prober(ctx context.Context, ct *container, d *brig.Container, args []string) {
	for sleep(ctx, c.nextProbe(ct)) {
		after := c.ran(ct, d)
		r, ok := c.probe(ctx, ct, d, args)
		if !ok {
			continue
		}
		if err := ct.lock.acquire(ctx); err != nil {
			return
		}
		if ctx.Err() == nil {
			c.judge(ct, r, after)
		}
		ct.lock.release()
	}
}

// nextProbe is the time until the next probe: a container that has never been healthy is probed more often at first.
func (c *Containers) nextProbe(ct *container) time.Duration {
	d := c.record(ct)
	h := d.Spec.Health
	if d.Health != nil && d.Health.Status == brig.HealthStarting && c.ran(ct, d) < h.StartPeriod {
		return cmp.Or(h.StartInterval, probeStartInterval)
	}
	return cmp.Or(h.Interval, probeInterval)
}

// probe runs the check once. False: it could not be told, for the run has ended or ctx has.
func (c *Containers) probe(ctx context.Context, ct *container, d *brig.Container, args []string) (brig.HealthResult, bool) {
	r := brig.HealthResult{Start: time.Now().UTC(), ExitCode: -1}
	limit := cmp.Or(d.Spec.Health.Timeout, probeTimeout)
	out := &headBuffer{}
	id, err := c.ExecCreate(ctx, string(ct.id), brig.ExecSpec{Args: args, AttachOut: true, AttachErr: true})
	if err == nil {
		var late bool
		late, err = c.runProbe(ctx, id, limit, brig.IO{Stdout: out, Stderr: out})
		if late {
			err = fmt.Errorf("Health check exceeded timeout (%v)", limit)
			if s := out.String(); s != "" {
				err = fmt.Errorf("%w: %s", err, s)
			}
		}
	}
	r.End = time.Now().UTC()
	if ctx.Err() != nil || errs.Is(err, errs.Conflict) {
		return r, false
	}
	if err != nil {
		r.Output = err.Error()
		return r, true
	}
	x, err := c.ExecGet(ctx, string(id))
	if err != nil || x.ExitCode == nil {
		return r, false
	}
	r.ExitCode, r.Output = *x.ExitCode, out.String()
	c.mu.Lock()
	delete(c.execs, id) // nobody inspects it, and there will be many
	c.mu.Unlock()
	return r, true
}

// runProbe starts an exec and returns when it has ended. One that takes longer than limit is killed and late; one that runs when ctx
// ends is killed, too.
func (c *Containers) runProbe(ctx context.Context, id brig.ID, limit time.Duration, streams brig.IO) (late bool, err error) {
	x, err := c.findExec(string(id))
	if err != nil {
		return false, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	over := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		t := time.NewTimer(limit)
		defer t.Stop()
		select {
		case <-over:
			return
		case <-t.C:
			late = true
			select { // a process that is about to come can't be killed yet
			case <-x.began:
			case <-over:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
		defer cancel()
		if err := c.cfg.Processes.Signal(kill, x.handle, id, int(syscall.SIGKILL)); err != nil && late && !errs.Is(err, errs.NotFound) {
			c.log.Warn("kill a health check", "container", x.ct.id.Short(), "err", err)
		}
		stop()
	})
	err = c.ExecStart(running, string(id), false, streams)
	close(over)
	killer.Wait()
	return late, err
}

// judge adds a result to a running container's health and tells of a change. The status is saved when it changes; results in between
// are held in memory, and saved with whatever is saved next. The caller holds ct's lock.
func (c *Containers) judge(ct *container, r brig.HealthResult, after time.Duration) {
	cur := c.record(ct)
	if cur.State != brig.Running {
		return
	}
	c.cfg.Observer.Probed(r.ExitCode == 0)
	if cur.Health == nil { // started by a brigd that knew of no health
		cur = cur.Clone()
		cur.Health = freshHealth(cur)
	}
	next := cur.Clone()
	next.Health = judged(cur, r, after)
	if next.Health.Status == cur.Health.Status {
		c.show(ct, next)
		return
	}
	if err := c.commit(context.WithoutCancel(c.base), ct, next); err != nil {
		c.log.Error("record a container's health", "container", ct.id.Short(), "err", err)
		c.show(ct, next)
	}
	c.event(next, "health_status: "+next.Health.Status)
}

// judged is d's health after one more result, of a probe that began so long after the run. As with dockerd, failures within the start period of a container that has not been
// healthy yet don't count.
func judged(d *brig.Container, r brig.HealthResult, after time.Duration) *brig.Health {
	h := *d.Health
	h.Log = append(slices.Clone(h.Log[max(0, len(h.Log)-probeLog+1):]), r)
	switch {
	case r.ExitCode == 0:
		h.Status, h.FailingStreak = brig.HealthHealthy, 0
	case h.Status == brig.HealthStarting && after < d.Spec.Health.StartPeriod:
	default:
		h.FailingStreak++
		if h.FailingStreak >= cmp.Or(d.Spec.Health.Retries, probeRetries) {
			h.Status = brig.HealthUnhealthy
		}
	}
	return &h
}

// headBuffer keeps the first probeOutput bytes that are written to it. It may be used from several goroutines.
type headBuffer struct {
	mu   sync.Mutex
	head []byte
	more bool
}

// Write takes all of p.
func (b *headBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(p), probeOutput-len(b.head))
	b.head = append(b.head, p[:n]...)
	b.more = b.more || n < len(p)
	return len(p), nil
}

// String returns what was kept, with dots if that isn't all.
func (b *headBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := strings.ToValidUTF8(string(b.head), "\ufffd")
	if b.more {
		s += "..."
	}
	return s
}
