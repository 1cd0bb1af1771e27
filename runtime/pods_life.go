package runtime

import (
	"context"
	"errors"
	"slices"
	"sync"
	"syscall"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// PodStart starts the apps that don't run, in the pod's order, or none: if one can't be started those that it has started are killed.
// NotModified if all run already. What they share stays up until all have been started, however short the first ones live.
func (c *Containers) PodStart(ctx context.Context, ref string) (err error) {
	p, ct, err := c.holdPod(ctx, ref)
	if err != nil {
		return err
	}
	if p == nil {
		return c.Start(ctx, string(ct.id))
	}
	defer p.lock.release()
	crew := c.crew(p)
	if !slices.ContainsFunc(crew, func(ct *container) bool { return !c.record(ct).State.Active() }) {
		return errs.New(errs.NotModified, "pod %s is already running", c.podRec(p).Name)
	}
	c.halt(p, false)
	if _, err := c.enterPod(ctx, p, p.id); err != nil {
		return err
	}
	late := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, c.leavePod(late, p, p.id)) }()
	var begun []*container
	for _, ct := range crew {
		err := c.startApp(ctx, p, ct)
		if errs.Is(err, errs.NotModified) {
			continue
		}
		if err != nil {
			for _, ct := range slices.Backward(begun) {
				err = errors.Join(err, c.kill(late, ct))
			}
			return errs.Wrap(err, "app %s", c.record(ct).App)
		}
		begun = append(begun, ct)
		fault.Point("pod.app.started")
	}
	return nil
}

func (c *Containers) startApp(ctx context.Context, p *pod, ct *container) error {
	if err := c.Start(ctx, string(ct.id)); err != nil {
		return err
	}
	c.mu.Lock()
	halted := p.halted
	c.mu.Unlock()
	if halted {
		return errors.Join(errs.New(errs.Conflict, "the pod was stopped while it was being started"), c.kill(context.WithoutCancel(ctx), ct))
	}
	return nil
}

// halt says whether a start that is under way shall go on.
func (c *Containers) halt(p *pod, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.halted = on
}

// PodStop stops all apps at once, each as docker stop does. NotModified if none runs.
func (c *Containers) PodStop(ctx context.Context, ref string, o brig.StopOptions) error {
	p, ct, err := c.findPod(ref)
	if err != nil {
		return err
	}
	if p == nil {
		return c.Stop(ctx, string(ct.id), o)
	}
	c.halt(p, true)
	return c.each(p, errs.New(errs.NotModified, "pod %s is already stopped", c.podRec(p).Name), func(ct *container) error {
		return c.Stop(ctx, string(ct.id), o)
	})
}

// PodKill sends a signal to the main processes of all apps that run; "" is KILL, whose effect it waits for. Conflict if none runs.
func (c *Containers) PodKill(ctx context.Context, ref, signal string) error {
	p, ct, err := c.findPod(ref)
	if err != nil {
		return err
	}
	if p == nil {
		return c.Kill(ctx, string(ct.id), signal)
	}
	sig, err := parseSignal(signal, syscall.SIGKILL)
	if err != nil {
		return errs.Wrap(err, "cannot kill pod: %s", ref)
	}
	if sig == syscall.SIGKILL {
		c.halt(p, true)
	}
	return c.each(p, errs.New(errs.Conflict, "cannot kill pod: %s: none of its apps is running", c.podRec(p).Name), func(ct *container) error {
		return c.Kill(ctx, string(ct.id), signal)
	})
}

// each calls do for all apps that are active or have an event handler run, at once; that one has ended meanwhile is no error. none is the error if none is active.
func (c *Containers) each(p *pod, none error, do func(*container) error) error {
	var active []*container
	for _, ct := range c.crew(p) {
		if c.record(ct).State.Active() || c.handles(ct) != nil {
			active = append(active, ct)
		}
	}
	if len(active) == 0 {
		return none
	}
	failed := make([]error, len(active))
	var working sync.WaitGroup
	for i, ct := range active {
		working.Go(func() {
			err := do(ct)
			if c.record(ct).State.Active() || errs.Is(err, errs.Invalid) {
				failed[i] = errs.Wrap(err, "app %s", c.record(ct).App)
			}
		})
	}
	working.Wait()
	return errors.Join(failed...)
}

// hasRun reports whether a pod has been started and has ended.
func (c *Containers) hasRun(p *pod) bool {
	ran := false
	for _, ct := range c.crew(p) {
		d := c.record(ct)
		if d.State.Active() {
			return false
		}
		ran = ran || !d.StartedAt.IsZero() || d.Error != ""
	}
	return ran
}
