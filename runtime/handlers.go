package runtime

import (
	"bytes"
	"cmp"
	"context"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// A handling is one event handler that runs, or is about to.
type handling struct {
	before bool          // a pre-start: there is no main process yet
	done   chan struct{} // closed when nothing of it is left

	// Guarded by Containers.mu.
	handle   *brig.Handle // nil: it is still to come
	unwanted bool         // it was killed before it came
}

// runHandler runs an event handler of appc's (aci.md) to its end: in a jail that is the main process's but for what runs in it, so with its
// files, mounts, network, environment and user. j is left as it is. The jail's run directory and ID are those of the main process, which
// doesn't run meanwhile: the sweep of jails knows or ends it as it would that. Output goes to the log. The caller holds ct's lock.
func (c *Containers) runHandler(ctx context.Context, ct *container, j *brig.Jail, what string, args []string) (err error) {
	defer func() { err = errs.Wrap(err, "the %s handler %q", what, args[0]) }()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // a client that goes away leaves the handler alone
	defer cancel()
	defer context.AfterFunc(c.base, cancel)()
	own := *j
	own.Args = args
	own.Spec.TTY, own.Spec.OpenStdin, own.Spec.Sockets = false, false, nil
	run := c.handles(ct)
	if run == nil {
		run = &handling{before: what == preStart, done: make(chan struct{})}
		c.setHandling(ct, run)
		defer close(run.done)
		defer c.setHandling(ct, nil)
	}
	h, _, err := c.cfg.Jails.Create(ctx, &own) // its warnings are the main process's
	if err != nil {
		return err
	}
	said := &tail{}
	var listening sync.WaitGroup
	defer listening.Wait()
	defer func() {
		if e := c.cfg.Jails.Destroy(context.WithoutCancel(ctx), h); err == nil {
			err = e
		}
	}()
	fault.Point("handler.made")
	c.mu.Lock()
	run.handle = h
	unwanted := run.unwanted
	c.mu.Unlock()
	if unwanted {
		return errs.New(errs.Invalid, "ended with exit code 137: it was killed before it began")
	}
	joined := make(chan struct{})
	listening.Go(func() {
		join := sync.OnceFunc(func() { close(joined) })
		defer join()
		c.cfg.Processes.Attach(ctx, h, brig.IO{Stdout: said, Stderr: said, Attached: join}) // what it says is in the log too
	})
	<-joined
	if err := c.cfg.Processes.Start(ctx, h); err != nil {
		return err
	}
	fault.Point("handler.started")
	exit, err := c.cfg.Processes.Wait(ctx, h)
	switch {
	case c.base.Err() != nil:
		return errs.New(errs.Unavailable, "brigd is stopping")
	case err != nil:
		return err
	case exit.Code != 0:
		listening.Wait()
		return errs.New(errs.Invalid, "ended with exit code %d%s", exit.Code, said)
	}
	return nil
}

// Names of the event handlers.
const (
	preStart = "pre-start"
	postStop = "post-stop"
)

func (c *Containers) setHandling(ct *container, h *handling) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct.handling = h
}

// handles returns ct's event handler that runs; nil: none.
func (c *Containers) handles(ct *container) *handling {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ct.handling
}

// expectHandler notes that a post-stop handler comes, if d has one, so that who stops or kills ct in between ends it too. c.mu is held.
func (c *Containers) expectHandler(ct *container, d *brig.Container) {
	if len(d.Spec.PostStop) > 0 && d.Netns != nil {
		ct.handling = &handling{done: make(chan struct{})}
	}
}

// afterEnd runs the post-stop handler of a run that has ended, if it has one; d is the record of that run. It goes on until somebody stops or
// kills it. What comes of it changes nothing, and is logged. The caller holds ct's lock.
func (c *Containers) afterEnd(ctx context.Context, ct *container, d *brig.Container) {
	if len(d.Spec.PostStop) == 0 || d.Netns == nil {
		return
	}
	if run := c.handles(ct); run != nil {
		defer close(run.done)
		defer c.setHandling(ct, nil)
	}
	if err := c.runPostStop(ctx, ct, d.Clone()); err != nil {
		c.log.Warn("after a run", "container", ct.id.Short(), "err", err)
	}
}

func (c *Containers) runPostStop(ctx context.Context, ct *container, d *brig.Container) error {
	root, err := c.cfg.RootFS.Mount(ctx, d.RootFS)
	if err != nil {
		return errs.Wrap(err, "find root file system")
	}
	near, err := c.neighbours(&d.Spec)
	if err != nil {
		return err
	}
	if p := c.podOf(d); p != nil {
		rec := c.podRec(p)
		near.net, near.pod = c.box(rec), rec.Sandbox
	}
	links, err := c.links(d)
	if err != nil {
		return err
	}
	j, err := c.jail(d, root, *d.Netns, near, links)
	if err != nil {
		return err
	}
	j.Env = append(c.metadataEnv(ctx, d), j.Env...)
	hide, err := c.showSubpaths(ctx, d, j)
	if err == nil {
		err = c.runHandler(ctx, ct, j, postStop, d.Spec.PostStop)
	}
	if e := hide(); err == nil {
		err = e
	}
	return err
}

// stopHandler has an event handler end that runs while ct has no main process: a pre-start gets the stop signal first, a post-stop only time.
// false: none runs.
func (c *Containers) stopHandler(ctx context.Context, ct *container, o brig.StopOptions) (bool, error) {
	run, d := c.handles(ct), c.record(ct)
	if run == nil {
		return false, nil
	}
	if run.before {
		sig, err := parseSignal(cmp.Or(o.Signal, d.Spec.StopSignal), syscall.SIGTERM)
		if err != nil {
			return true, err
		}
		c.markStopped(ct)
		if err := c.signalHandler(ctx, run, sig); err != nil {
			return true, err
		}
	}
	ended, err := c.waitFor(ctx, run.done, stopTimeout(o, &d.Spec))
	if err != nil || ended {
		return true, err
	}
	return true, c.killHandler(ctx, run)
}

// waitHandled waits for ct to be no longer active, after its process was killed. A post-stop handler has the stop timeout.
func (c *Containers) waitHandled(ctx context.Context, ct *container, idle chan struct{}) error {
	d := c.record(ct)
	if len(d.Spec.PostStop) == 0 {
		return c.waitIdle(ctx, idle)
	}
	for patience := stopTimeout(brig.StopOptions{}, &d.Spec); ; patience = 1 {
		if ended, err := c.waitFor(ctx, idle, patience); err != nil || ended {
			return err
		}
		if run := c.handles(ct); run != nil {
			if err := c.killHandler(ctx, run); err != nil {
				return err
			}
		}
	}
}

// killHandler ends an event handler and waits for that.
func (c *Containers) killHandler(ctx context.Context, run *handling) error {
	for {
		if err := c.signalHandler(ctx, run, syscall.SIGKILL); err != nil {
			return err
		}
		select {
		case <-run.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-c.base.Done():
			return errs.New(errs.Unavailable, "brigd is stopping")
		case <-time.After(time.Second): // the signal may have come before the process
		}
	}
}

func (c *Containers) signalHandler(ctx context.Context, run *handling, sig syscall.Signal) error {
	c.mu.Lock()
	h := run.handle
	run.unwanted = run.unwanted || h == nil && sig == syscall.SIGKILL
	c.mu.Unlock()
	if h == nil {
		return nil
	}
	err := c.cfg.Processes.Signal(ctx, h, "", int(sig))
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return errs.Wrap(err, "send signal %d to an event handler", int(sig))
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	const most = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b[max(0, len(b)-most):]...)
	t.b = t.b[max(0, len(t.b)-most):]
	return len(b), nil
}

// String is the last line, with a colon before it; "" if there is none.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := bytes.TrimSpace(t.b)
	line = line[bytes.LastIndexByte(line, '\n')+1:]
	if len(line) == 0 {
		return ""
	}
	return ": " + strings.ToValidUTF8(string(line[max(0, len(line)-500):]), "?")
}
