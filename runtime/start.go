package runtime

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/erase"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/logopts"
	"github.com/brigd/brig/internal/undo"
)

// move changes d's state by the table of moves.
func move(d *brig.Container, to brig.State) error {
	if err := d.State.Move(to); err != nil {
		return errs.Wrap(err, "container %s", d.ID.Short())
	}
	d.State = to
	return nil
}

// Start runs a container. NotModified if it runs already.
func (c *Containers) Start(ctx context.Context, ref string) error {
	ct, err := c.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer ct.lock.release()
	return c.startByUser(ctx, ct)
}

// startByUser starts ct afresh: counters go back and a user's stop is forgotten. The caller holds ct's lock.
func (c *Containers) startByUser(ctx context.Context, ct *container) error {
	cur := c.record(ct)
	if err := ofBuild(cur, "it can't be started"); err != nil {
		return err
	}
	switch cur.State {
	case brig.Running, brig.Restarting: // which Docker counts as running
		return errs.New(errs.NotModified, "container %s is already running", ct.id.Short())
	case brig.Paused:
		return errs.New(errs.Conflict, "cannot start a paused container, try unpause instead")
	case brig.Removing, brig.Dead:
		return errs.New(errs.Conflict, "container is marked for removal and cannot be started")
	}
	c.mu.Lock()
	ct.stopped = false
	c.mu.Unlock()
	ct.backoff = 0
	next := cur.Clone()
	next.RestartCount = 0
	err := c.start(ctx, ct, next)
	if err != nil {
		err = c.startFailed(context.WithoutCancel(ctx), ct, err)
	}
	return err
}

// start takes every step from a container without a process to a running one, or undoes what it did. The process runs before
// the record says so: after a crash in between, the sweep of jails ends it. The caller holds ct's lock; next is its own.
func (c *Containers) start(ctx context.Context, ct *container, next *brig.Container) (err error) {
	defer c.timed("start", &err)()
	if err := move(next, brig.Running); err != nil {
		return err
	}
	c.cfg.Host.Expect()
	var u undo.Stack
	defer u.Run(ctx, &err)
	near, err := c.neighbours(&next.Spec)
	if err != nil {
		return err
	}
	att, err := c.mountAndAttach(ctx, ct, next, near.net, &u)
	if err != nil {
		return err
	}
	if att.box != nil {
		near.net, near.pod = att.box, att.sandbox
	}
	c.networkEvents(next, "connect")
	mounted := false
	u.Push("tell of it", func(context.Context) error { c.leftEvents(next, mounted); return nil })
	if err := c.useVolumes(ctx, next); err != nil {
		return err
	}
	c.volumeEvents(next, "mount")
	mounted = true
	fault.Point("start.attached")
	introduced := c.introduce(ctx, next, &u)
	if err := checkCwd(next, ct.root); err != nil {
		return err
	}
	links, err := c.links(next)
	if err != nil {
		return err
	}
	j, err := c.jail(next, ct.root, att.Netns, near, links)
	if err != nil {
		return err
	}
	j.Env = append(c.metadataEnv(ctx, next), j.Env...)
	hide, err := c.showSubpaths(ctx, next, j)
	defer func() {
		if e := hide(); e != nil {
			c.log.Warn("after a start", "container", ct.id.Short(), "err", e)
		}
	}()
	if err != nil {
		return err
	}
	if err := c.furnish(ct, next, j); err != nil {
		return err
	}
	fault.Point("start.furnished")
	u.Push("remove run directory", func(context.Context) error { return erase.All(j.Dir) })
	if len(j.Spec.PreStart) > 0 {
		introduced()
		if err := c.runHandler(ctx, ct, j, preStart, j.Spec.PreStart); err != nil {
			return err
		}
	}
	h, warnings, err := c.cfg.Jails.Create(ctx, j)
	if err != nil {
		return err
	}
	u.Push("destroy jail", func(ctx context.Context) error { return c.cfg.Jails.Destroy(ctx, h) })
	fault.Point("jail.made")
	for _, w := range append(att.Warnings, warnings...) {
		c.log.Warn("start with less than asked for", "container", ct.id.Short(), "warning", w)
	}
	c.connectPending(ctx, ct, h)
	introduced()
	if err := c.cfg.Processes.Start(ctx, h); err != nil {
		return err
	}
	fault.Point("jail.started")
	next.PID, next.Handle, next.Error, next.ExitCode, next.OOMKilled = max(0, h.InitPID), h, "", 0, false
	next.StartedAt, next.FinishedAt = time.Now().UTC(), ct.rec.FinishedAt
	next.Health = freshHealth(next)
	if next.Netns = nil; len(next.Spec.PostStop) > 0 {
		next.Netns = &att.Netns
	}
	if err := c.save(ctx, ct, next); err != nil {
		return err
	}
	fault.Point("start.recorded")
	u.Release()
	c.running(ct, next, j)
	return nil
}

// running shows a container that has come to run, and starts its watcher. j is nil for an adopted one.
func (c *Containers) running(ct *container, next *brig.Container, j *brig.Jail) {
	c.mu.Lock()
	ct.rec, ct.jail, ct.began = next, j, time.Time{}
	if j != nil {
		ct.began = time.Now()
	}
	if ct.idle == nil || closed(ct.idle) {
		ct.idle = make(chan struct{})
	}
	c.mu.Unlock()
	if j != nil {
		c.updateLinks(next)
		c.event(next, "start")
	}
	c.startProber(ct, next)
	c.work.Go(func() { c.watch(ct, next.Handle) })
}

// ran is how long the run of d has lasted. The host's clock may be set meanwhile: it counts only for a run that an earlier brigd began.
func (c *Containers) ran(ct *container, d *brig.Container) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ct.began.IsZero() {
		return time.Since(d.StartedAt)
	}
	return time.Since(ct.began)
}

func closed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// mountAndAttach mounts the root file system and, at the same time, joins the networks; next gets this run's endpoints.
func (c *Containers) mountAndAttach(ctx context.Context, ct *container, next, owner *brig.Container, u *undo.Stack) (joined, error) {
	var mounting sync.WaitGroup
	var mountErr error
	mounting.Go(func() { mountErr = c.useRoot(ctx, ct) })
	att, err := c.join(ctx, next, owner)
	mounting.Wait()
	if mountErr == nil {
		u.Push("unmount root file system", func(ctx context.Context) error { return c.leaveRoot(ctx, ct) })
	}
	if err == nil {
		u.Push("detach network", func(ctx context.Context) error { return c.part(ctx, next) })
		if owner == nil {
			next.Endpoints = att.Endpoints
		}
	}
	return att, errors.Join(errs.Wrap(mountErr, "mount root file system"), err)
}

// useRoot mounts ct's root file system if it isn't, and counts one more user. The caller holds ct's lock.
func (c *Containers) useRoot(ctx context.Context, ct *container) error {
	if d := c.record(ct); d.Tree != "" {
		ct.root = d.Tree
	} else if ct.users == 0 || ct.root == "" {
		root, err := c.cfg.RootFS.Mount(ctx, d.RootFS)
		if err != nil {
			return err
		}
		ct.root = root
	}
	ct.users++
	return nil
}

// leaveRoot takes a user away; the last one unmounts, volumes too. The caller holds ct's lock.
func (c *Containers) leaveRoot(ctx context.Context, ct *container) error {
	if ct.users--; ct.users > 0 {
		return nil
	}
	ct.users, ct.root = 0, ""
	d := c.record(ct)
	if d.Tree != "" {
		return c.leaveVolumes(ctx, d)
	}
	return errors.Join(c.leaveVolumes(ctx, d), c.cfg.RootFS.Unmount(ctx, d.RootFS))
}

// neighbours are the containers that one shares namespaces with; nil where it doesn't.
type neighbours struct {
	net, pid, ipc *brig.Container
	pod           *brig.Sandbox // what it shares with the other apps of its pod, which net then stands for
}

func (c *Containers) neighbours(s *brig.Spec) (n neighbours, err error) {
	for _, x := range []struct {
		mode, what string
		to         **brig.Container
	}{{s.NetworkMode, "network", &n.net}, {s.PidMode, "PID", &n.pid}, {s.IpcMode, "IPC", &n.ipc}} {
		ref, ok := strings.CutPrefix(x.mode, "container:")
		if !ok {
			continue
		}
		ct, err := c.find(ref)
		if err != nil {
			return n, err
		}
		d := c.record(ct)
		if !d.State.HasProcess() || d.Handle == nil || d.Handle.InitPID <= 0 {
			return n, errs.New(errs.Conflict, "cannot join %s of a non running container: %s", x.what, d.ID)
		}
		if x.to == &n.ipc && !sharesIPC(d.Spec.IpcMode) {
			return n, errs.New(errs.Invalid, "can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", ref)
		}
		*x.to = d
	}
	return n, nil
}

// sharesIPC says whether a container of that mode lets others join its IPC.
func sharesIPC(mode string) bool {
	return mode == "shareable" || mode == "host" || strings.HasPrefix(mode, "container:")
}

// jail composes what jailer needs; d's endpoints are those of this run.
func (c *Containers) jail(d *brig.Container, root string, ns brig.Netns, near neighbours, links []link) (*brig.Jail, error) {
	if near.net != nil {
		d.HostnamePath, d.HostsPath, d.ResolvConfPath = near.net.HostnamePath, near.net.HostsPath, near.net.ResolvConfPath
		d.Spec.Hostname = cmp.Or(d.Spec.Hostname, near.net.Spec.Hostname)
	}
	mounts, err := jailMounts(d)
	if err != nil {
		return nil, err
	}
	files, err := c.writeFiles(d, near.net, links)
	if err != nil {
		return nil, err
	}
	if d.LogPath != "" {
		if err := os.MkdirAll(c.dir(d.ID), 0o710); err != nil {
			return nil, errs.Wrap(err, "make the container's directory")
		}
	}
	sink, err := logopts.NewSink(d.Spec.Log, logopts.Of(d))
	if err != nil {
		return nil, err
	}
	j := &brig.Jail{
		ID: d.ID, Dir: c.runDir(d.RootFS), Root: root, Hostname: d.Spec.Hostname, Netns: ns, Mounts: append(mounts, files...),
		Args: slices.Concat(d.Spec.Entrypoint, d.Spec.Cmd), Env: slices.Concat(linkEnv(d, links), d.Spec.Env), Cwd: cmp.Or(d.Spec.WorkingDir, "/"),
		OS: d.Platform.OS, LogPath: d.LogPath, Log: sink, Cgroup: cmp.Or(d.Spec.CgroupParent, c.cfg.Cgroup), Pod: near.pod, Spec: d.Spec,
	}
	if near.pid != nil {
		j.PIDOf = near.pid.Handle
	}
	if near.ipc != nil {
		j.IPCOf = near.ipc.Handle
	}
	return j, nil
}

// startFailed records why a start failed and gives err Docker's words and kind. Everything that the start did is undone
// already. A container that removes itself is removed. The caller holds ct's lock.
func (c *Containers) startFailed(ctx context.Context, ct *container, err error) error {
	next := c.record(ct).Clone()
	code, err := startCode(err)
	if code != 128 || next.ExitCode == 0 { // else that of the last run stays, as with dockerd
		next.ExitCode = code
	}
	next.Error = err.Error()
	if e := c.commit(ctx, ct, next); e != nil {
		c.log.Error("record a failed start", "container", ct.id.Short(), "err", e)
	}
	fault.Point("startfail.recorded")
	c.endPending(ct)
	c.mu.Lock()
	remove := next.Spec.AutoRemove && !ct.removing
	c.mu.Unlock()
	if remove {
		if e := c.destroy(ctx, ct, true); e != nil {
			c.log.Error("remove a container that didn't start", "container", ct.id.Short(), "err", e)
		}
	}
	return err
}

// startCode returns the exit code that stands for a failed start: 127 and 126 as a shell has them, else 128. Clients match on
// the same words as we do here.
func startCode(err error) (int, error) {
	text := strings.ToLower(err.Error())
	has := func(s string) bool { return strings.Contains(text, s) }
	kind := errs.KindOf(err)
	if kind == errs.Internal {
		kind = errs.Invalid
	}
	switch {
	case has("executable file not found"), has("no such file or directory") && has("exec") && errs.Is(err, errs.Invalid):
		return 127, errs.As(kind, err)
	case has("permission denied"), has("is a directory") && has("exec"):
		return 126, errs.As(kind, err)
	case has("not a directory"):
		return 127, errs.New(kind, "%w: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type", err)
	}
	return 128, err
}
