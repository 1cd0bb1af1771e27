package runtime

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/tarfs"
	"github.com/brigd/brig/internal/undo"
)

// RunStep runs one step of a build in a container whose root file system is the step's tree, and returns its exit code after all of its output
// has been written. When ctx ends the container is killed and removed.
//
// The container is in memory alone: a crash leaves a jail, a network, a directory and volumes that no record names, which Recover and the sweep of
// the store remove. So it costs no writing to the disk.
func (c *Containers) RunStep(ctx context.Context, r brig.StepRun) (code int, err error) {
	secrets, forget, err := c.placeSecrets(ctx, r.Secrets)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, forget()) }()
	r.Spec.Mounts = slices.Concat(r.Spec.Mounts, secrets)
	ct, err := c.makeStep(ctx, r)
	if err != nil {
		return 0, err
	}
	if r.Started != nil {
		r.Started(ct.id)
	}
	exit, err := c.runStep(ctx, ct, r.Stdout, r.Stderr)
	if err == nil && exit.Error != "" {
		c.log.Warn("the end of a build's step", "container", ct.id.Short(), "err", exit.Error)
	}
	keep := ctx.Err() == nil && (r.Keep || r.KeepFailed && (err != nil || exit.Code != 0))
	if e := c.endStep(context.WithoutCancel(ctx), ct, keep); e != nil {
		err = errors.Join(err, e)
	}
	return exit.Code, err
}

// makeStep makes the container, and holds its lock.
func (c *Containers) makeStep(ctx context.Context, r brig.StepRun) (_ *container, err error) {
	c.cfg.Host.Expect()
	d := &brig.Container{
		ID: brig.NewID(), Created: time.Now().UTC(), Image: r.Image, ImageRef: r.ImageRef, Platform: r.Platform, Driver: c.cfg.Driver,
		RootFS: r.Tree.ID, Chain: r.Tree.Parent, Tree: r.Tree.Path, Step: true, Spec: r.Spec,
	}
	d.Spec.Image, d.Spec.Health, d.Spec.Restart, d.Spec.AutoRemove = r.ImageRef, nil, brig.RestartPolicy{}, false
	if _, err := checkSpec(&d.Spec); err != nil {
		return nil, err
	}
	if err := c.completeSpec(ctx, d); err != nil {
		return nil, err
	}
	if d.Name, err = c.reserve("", d.ID); err != nil {
		return nil, err
	}
	var u undo.Stack
	defer u.Run(ctx, &err)
	u.Push("release name", func(context.Context) error { c.release(d.Name, d.ID); return nil })
	if usesVolumes(&d.Spec) {
		if err := c.volumes.acquire(ctx); err != nil {
			return nil, err
		}
		defer c.volumes.release()
	}
	m := made{undo: &u}
	if d.Mounts, err = c.resolveMounts(ctx, &d.Spec, &m); err != nil {
		return nil, err
	}
	if err := c.fill(ctx, d, &m); err != nil {
		return nil, err
	}
	fault.Point("step.made")
	u.Release()
	ct := &container{id: d.ID, lock: newLock(), rec: d}
	ct.lock <- struct{}{} // what prunes containers takes it for one that is never started else
	c.addVolumes(m.volumes)
	c.mu.Lock()
	c.byID[ct.id] = ct
	c.mu.Unlock()
	c.event(d, "create")
	return ct, nil
}

// runStep starts ct, whose lock it takes over from the caller, and returns when nothing of the run is left but what the process has written to the
// tree. If ctx ends before, ct is killed.
func (c *Containers) runStep(ctx context.Context, ct *container, out, errOut io.Writer) (exit brig.Exit, err error) {
	listening, cancel := context.WithCancel(ctx)
	var listener sync.WaitGroup
	defer listener.Wait()
	defer cancel()
	ended, err := c.Wait(context.WithoutCancel(ctx), string(ct.id), brig.WaitNextExit)
	if err != nil {
		ct.lock.release()
		return exit, err
	}
	var deaf error
	attached := make(chan struct{})
	join := sync.OnceFunc(func() { close(attached) })
	listener.Go(func() {
		defer join()
		deaf = c.Attach(listening, string(ct.id), brig.AttachOptions{Stream: true}, brig.IO{Stdout: out, Stderr: errOut, Attached: join})
	})
	<-attached
	// A start isn't broken off in its middle: an OCI runtime whose shim has gone still makes files. It takes a moment, and is followed by the kill.
	if err = ctx.Err(); err == nil {
		err = c.start(context.WithoutCancel(ctx), ct, c.record(ct).Clone())
	}
	if err != nil {
		err = c.startFailed(context.WithoutCancel(ctx), ct, err)
	}
	ct.lock.release()
	if err != nil {
		return exit, err
	}
	select {
	case exit = <-ended:
	case <-ctx.Done():
		cancel()
		if err := c.kill(context.WithoutCancel(ctx), ct); err != nil {
			return exit, errs.Wrap(err, "kill container %s", ct.id.Short())
		}
		exit = <-ended
	case <-c.base.Done():
		return exit, errs.New(errs.Unavailable, "brigd is stopping")
	}
	listener.Wait() // all has been written
	if ctx.Err() != nil {
		return exit, ctx.Err()
	}
	return exit, errs.Wrap(deaf, "read the output of container %s", ct.id.Short())
}

// endStep takes out of the tree what the engine had put there, and removes ct or makes it a container like others.
func (c *Containers) endStep(ctx context.Context, ct *container, keep bool) error {
	ct.lock <- struct{}{}
	defer ct.lock.release()
	err := ct.guest.leave()
	ct.guest = nil
	d := c.record(ct)
	c.mu.Lock()
	gone := ct.gone // by docker rm -f
	c.mu.Unlock()
	switch {
	case gone:
		return err
	case d.State.HasProcess(): // the kill failed, or brigd stops
		return errors.Join(err, errs.New(errs.Unavailable, "container %s still runs", d.ID.Short()))
	case keep && err == nil:
		if err = c.keepStep(ctx, ct, d); err == nil {
			return nil
		}
		c.log.Warn("a build's container can't be kept", "container", ct.id.Short(), "err", err)
		err = nil
	}
	return errors.Join(err, c.destroy(ctx, ct, true))
}

// keepStep gives ct, which has ended, a root file system of its own with what is in the tree, and a record. The caller holds ct's lock.
func (c *Containers) keepStep(ctx context.Context, ct *container, d *brig.Container) (err error) {
	changes, err := c.cfg.RootFS.Diff(ctx, d.RootFS)
	if err != nil {
		return errs.Wrap(err, "find what container %s changed", d.ID.Short())
	}
	next := d.Clone()
	next.RootFS, next.Tree = brig.NewRID(), ""
	next.Spec.Mounts = nil // where they come from is the build's, and gone when that has ended
	next.Mounts = slices.DeleteFunc(next.Mounts, func(m brig.MountPoint) bool { return m.Type != brig.MountVolume })
	var u undo.Stack
	defer u.Run(ctx, &err)
	c.hide(next.RootFS, false)
	u.Push("forget root file system", func(context.Context) error { c.unhide(next.RootFS); return nil })
	u.Push("remove root file system", func(ctx context.Context) error { return c.cfg.RootFS.Remove(ctx, next.RootFS) })
	if err := c.cfg.RootFS.Prepare(ctx, next.RootFS, next.Chain, 0); err != nil {
		return errs.Wrap(err, "make root file system")
	}
	root, err := c.cfg.RootFS.Mount(ctx, next.RootFS)
	if err != nil {
		return errs.Wrap(err, "mount root file system")
	}
	err = copyChanges(ctx, root, d.Tree, changes)
	if e := c.cfg.RootFS.Unmount(ctx, next.RootFS); err == nil {
		err = e
	}
	if err != nil {
		return errs.Wrap(err, "copy what the step changed")
	}
	vols := c.ownVolumes(d)
	rec, err := c.encode(ct, next)
	if err != nil {
		return err
	}
	puts := []brig.Record{rec, {Kind: kindName, Key: next.Name, Value: []byte(ct.id), New: true}}
	for _, v := range vols {
		r, err := volumeRecord(v)
		if err != nil {
			return err
		}
		puts = append(puts, r)
	}
	if err := c.cfg.Records.Put(ctx, puts, nil); err != nil {
		return errs.Wrap(err, "save container %s", ct.id.Short())
	}
	fault.Point("step.kept")
	u.Release()
	c.show(ct, next)
	c.unhide(next.RootFS)
	return nil
}

// copyChanges makes in the tree dst the changes by which src differs from what both come from.
func copyChanges(ctx context.Context, dst, src string, changes []brig.Change) error {
	r, w := io.Pipe()
	defer r.Close()
	var packing sync.WaitGroup
	defer packing.Wait()
	packing.Go(func() { w.CloseWithError(tarfs.PackChanges(ctx, w, src, changes)) })
	_, err := tarfs.Extract(ctx, dst, r, tarfs.Options{Whiteouts: tarfs.Apply})
	return err
}

// maxSecrets bounds the file system that a step's secrets are in, in bytes.
const maxSecrets = 16 << 20

// placeSecrets makes files of secrets, in memory, and returns the mounts that show them. forget takes them away; it is nil only if err isn't.
func (c *Containers) placeSecrets(ctx context.Context, secrets []brig.Secret) (mounts []brig.Mount, forget func() error, err error) {
	if len(secrets) == 0 {
		return nil, func() error { return nil }, nil
	}
	id := brig.NewRID()
	c.hide(id, true)
	forget = func() error {
		err := c.cfg.VolumeData.RemoveVolume(context.WithoutCancel(ctx), id)
		c.unhide(id)
		return errs.Wrap(err, "take a step's secrets away")
	}
	defer func() {
		if err != nil {
			err = errors.Join(errs.Wrap(err, "show secrets to a step"), forget())
		}
	}()
	dir, err := c.cfg.VolumeData.MakeMountPoint(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	memory := brig.VolumeMount{Type: "tmpfs", Device: "tmpfs", Options: "nosuid,nodev,noexec,mode=0700,size=" + strconv.Itoa(maxSecrets)}
	if err := c.cfg.VolumeData.MountVolume(ctx, id, memory); err != nil {
		return nil, nil, err
	}
	for i, s := range secrets {
		file := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(file, s.Data, 0o600); err != nil {
			return nil, nil, err
		}
		if err := errors.Join(os.Chown(file, s.UID, s.GID), os.Chmod(file, os.FileMode(s.Mode)&os.ModePerm)); err != nil {
			return nil, nil, err
		}
		mounts = append(mounts, brig.Mount{Type: brig.MountBind, Source: file, Target: s.Target, ReadOnly: true})
	}
	return mounts, forget, nil
}

// put changes records, but for a container that only memory knows.
func (c *Containers) put(ctx context.Context, d *brig.Container, puts, deletes []brig.Record) error {
	if d.Tree != "" {
		return nil
	}
	return c.cfg.Records.Put(ctx, puts, deletes)
}

// ofBuild refuses what a container can't do while it runs a step of a build.
func ofBuild(d *brig.Container, what string) error {
	if d.Tree == "" {
		return nil
	}
	return errs.New(errs.Conflict, "container %s runs a step of a build: %s", d.ID.Short(), what)
}
