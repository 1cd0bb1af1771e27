package runtime

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// keepExec is how long an exec can be inspected after its end.
const keepExec = 5 * time.Minute

// execution is one exec, in memory alone. Its fields but ct are guarded by Containers.mu.
type execution struct {
	brig.Exec
	ct     *container
	handle *brig.Handle  // of the run it is in
	began  chan struct{} // closed when it runs, or couldn't
	ended  time.Time     // zero: not yet
}

// runningExecs lists id's execs that run. The caller holds mu.
func (c *Containers) runningExecs(id brig.ID) []brig.ID {
	var ids []brig.ID
	for _, x := range c.execs {
		if x.Container == id && x.Running {
			ids = append(ids, x.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// canExec returns the run's record, or why there can be no exec now; ref is how the request named the container.
func (c *Containers) canExec(ct *container, ref string) (*brig.Container, error) {
	d := c.record(ct)
	switch {
	case d.State == brig.Paused:
		return nil, errs.New(errs.Conflict, "Container %s is paused, unpause the container before exec", ref)
	case d.State == brig.Restarting:
		return nil, errs.New(errs.Conflict, "Container %s is restarting, wait until the container is running", d.ID)
	case d.State != brig.Running:
		return nil, errs.New(errs.Conflict, "container %s is not running", d.ID)
	}
	return d, nil
}

// ExecCreate registers an exec in a running container.
func (c *Containers) ExecCreate(_ context.Context, ref string, spec brig.ExecSpec) (brig.ID, error) {
	if len(spec.Args) == 0 {
		return "", errs.New(errs.Invalid, "No exec command specified")
	}
	ct, err := c.find(ref)
	if err != nil {
		return "", err
	}
	d, err := c.canExec(ct, ref)
	if err != nil {
		return "", err
	}
	c.cfg.Host.Expect()
	x := &execution{Exec: brig.Exec{ID: brig.NewID(), Container: d.ID, Spec: spec}, ct: ct, handle: d.Handle, began: make(chan struct{})}
	c.mu.Lock()
	for id, old := range c.execs {
		if !old.ended.IsZero() && time.Since(old.ended) > keepExec {
			delete(c.execs, id)
		}
	}
	c.execs[x.ID] = x
	c.mu.Unlock()
	c.execEvent(x, "exec_create: "+commandLine(spec.Args))
	return x.ID, nil
}

// commandLine is a command as dockerd's events have it: with a blank after its name, even if there are no arguments.
func commandLine(args []string) string {
	if len(args) == 1 {
		return args[0] + " "
	}
	return strings.Join(args, " ")
}

func (c *Containers) execEvent(x *execution, action string, pairs ...string) {
	c.event(c.record(x.ct), action, append([]string{"execID", string(x.ID)}, pairs...)...)
}

// findExec takes a whole ID or a unique prefix.
func (c *Containers) findExec(ref string) (*execution, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.execs[brig.ID(ref)]; x != nil {
		return x, nil
	}
	var found *execution
	for id, x := range c.execs {
		if ref != "" && strings.HasPrefix(string(id), ref) {
			if found != nil {
				return nil, errs.New(errs.Invalid, "multiple exec instances found with provided prefix: %s", ref)
			}
			found = x
		}
	}
	if found == nil {
		return nil, errs.New(errs.NotFound, "No such exec instance: %s", ref)
	}
	return found, nil
}

// ExecGet returns a copy.
func (c *Containers) ExecGet(_ context.Context, exec string) (*brig.Exec, error) {
	x, err := c.findExec(exec)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := x.Exec
	return &d, nil
}

// claimExec marks x as started; once only.
func (c *Containers) claimExec(x *execution) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case x.ExitCode != nil:
		return errs.New(errs.Conflict, "exec command %s has already run", x.ID)
	case x.Started:
		return errs.New(errs.Conflict, "exec command %s is already running", x.ID)
	}
	x.Started = true
	return nil
}

// ExecStart runs an exec. The process goes on when ctx ends; then nobody reads its output.
func (c *Containers) ExecStart(ctx context.Context, exec string, detach bool, streams brig.IO) error {
	x, err := c.findExec(exec)
	if err != nil {
		return err
	}
	d, err := c.canExec(x.ct, string(x.Container))
	if err != nil {
		return err
	}
	if !sameRun(d.Handle, x.handle) {
		return errs.New(errs.Conflict, "exec %s belongs to an earlier run of container %s", x.ID.Short(), d.ID)
	}
	if err := c.claimExec(x); err != nil {
		return err
	}
	c.execEvent(x, "exec_start: "+commandLine(x.Spec.Args))
	detached := make(chan struct{})
	if detach {
		streams, ctx = brig.IO{Attached: streams.Attached}, context.WithoutCancel(ctx)
	} else if streams.Stdin != nil {
		streams.Stdin = &detachReader{r: streams.Stdin, detached: detached}
	}
	done, err := c.launch(ctx, x, d, streams)
	if err != nil {
		return err
	}
	over := make(chan struct{})
	c.work.Go(func() {
		defer close(over)
		c.watchExec(x, done)
	})
	if detach {
		return nil
	}
	select {
	case <-over:
		return nil
	case <-detached:
		c.execEvent(x, "exec_detach")
		return brig.ErrDetached
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sameRun reports whether two handles are of one run: a jail's ID may come again.
func sameRun(a, b *brig.Handle) bool {
	return a.JailID == b.JailID && a.InitPID == b.InitPID && a.ShimPID == b.ShimPID && a.ShimStart == b.ShimStart
}

// launch has the jailer start the process; a failure is an exit, too.
func (c *Containers) launch(ctx context.Context, x *execution, d *brig.Container, streams brig.IO) (_ <-chan brig.Exit, err error) {
	defer c.timed("exec", &err)()
	j, err := c.jailOf(ctx, x.ct, d)
	var pid int
	var done <-chan brig.Exit
	if err == nil {
		pid, done, err = c.cfg.Processes.Exec(ctx, d.Handle, j, x.ID, x.Spec, streams)
	}
	fault.Point("exec.launched")
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(x.began)
	if err != nil {
		code := 0
		if code, err = startCode(err); code == 128 {
			code = 126 // an exec's failures are all a shell's; only a container's start has a code of its own
		}
		x.ExitCode, x.ended = &code, time.Now()
		return nil, err
	}
	x.Running, x.PID = true, pid
	return done, nil
}

// jailOf returns the jail of ct's run; that of an adopted one is composed again.
func (c *Containers) jailOf(ctx context.Context, ct *container, d *brig.Container) (*brig.Jail, error) {
	c.mu.Lock()
	j := ct.jail
	c.mu.Unlock()
	if j != nil {
		return j, nil
	}
	root, err := c.cfg.RootFS.Mount(ctx, d.RootFS)
	if err != nil {
		return nil, errs.Wrap(err, "find root file system")
	}
	links, err := c.links(d)
	if err != nil {
		c.log.Warn("find the links of a container for an exec's environment", "container", d.ID.Short(), "err", err)
	}
	j = &brig.Jail{
		ID: d.ID, Dir: d.Handle.Dir, Root: root, Hostname: d.Spec.Hostname, Args: slices.Concat(d.Spec.Entrypoint, d.Spec.Cmd),
		Env: slices.Concat(c.metadataEnv(ctx, d), linkEnv(d, links), d.Spec.Env), Cwd: "/", OS: d.Platform.OS, LogPath: d.LogPath, Cgroup: c.cfg.Cgroup, Spec: d.Spec,
	}
	if d.Spec.WorkingDir != "" {
		j.Cwd = d.Spec.WorkingDir
	}
	if d.Spec.CgroupParent != "" {
		j.Cgroup = d.Spec.CgroupParent
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ct.rec.Handle != nil && sameRun(ct.rec.Handle, d.Handle) {
		ct.jail = j
	}
	return j, nil
}

// watchExec records the exec's end. It belongs to c.work.
func (c *Containers) watchExec(x *execution, done <-chan brig.Exit) {
	var exit brig.Exit
	select {
	case e, ok := <-done:
		if exit = e; !ok {
			exit = lostExit(nil, nil)
		}
	case <-c.base.Done():
		return
	}
	c.mu.Lock()
	x.Running, x.PID, x.ExitCode, x.ended = false, 0, &exit.Code, time.Now()
	c.mu.Unlock()
	fault.Point("exec.ended")
	c.execEvent(x, "exec_die", "exitCode", strconv.Itoa(exit.Code))
}

// ExecResize sets the window size of an exec's terminal; it waits for one that is about to start.
func (c *Containers) ExecResize(ctx context.Context, exec string, rows, cols uint) error {
	x, err := c.findExec(exec)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	select {
	case <-x.began:
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "timeout waiting for exec session ready")
	}
	c.mu.Lock()
	running := x.Running
	c.mu.Unlock()
	if !running {
		return errs.New(errs.Conflict, "exec %s is not running", x.ID.Short())
	}
	return errs.Wrap(c.cfg.Terminals.Resize(ctx, x.handle, x.ID, rows, cols), "resize exec %s", x.ID.Short())
}

// detachReader notices that its reader said ErrDetached.
type detachReader struct {
	r        io.Reader
	detached chan struct{} // closed then
}

// Read is for one goroutine.
func (d *detachReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if errors.Is(err, brig.ErrDetached) && !closed(d.detached) {
		close(d.detached)
	}
	return n, err
}
