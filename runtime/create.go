package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/sys/signal"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/erase"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/logopts"
	"github.com/brigd/brig/internal/podspec"
	"github.com/brigd/brig/internal/undo"
)

// Create makes a container from an image.
//
// All that it makes on disk carries random names that no record holds until the one transaction at the end, which writes
// the container, its name and its new volumes: that is the commit. Until then a crash leaves what the next sweep removes.
func (c *Containers) Create(ctx context.Context, r brig.CreateRequest) (id brig.ID, warnings []string, err error) {
	if r.Name = strings.TrimPrefix(r.Name, "/"); r.Name != "" {
		if err := brig.CheckName("container", r.Name); err != nil {
			return "", nil, err
		}
	}
	err = c.cfg.Images.With(ctx, r.Spec.Image, r.Platform, func(img *brig.Image) error {
		id, warnings, err = c.create(ctx, r, img)
		return err
	})
	return id, warnings, err
}

func (c *Containers) create(ctx context.Context, r brig.CreateRequest, img *brig.Image) (_ brig.ID, _ []string, err error) {
	defer c.timed("create", &err)()
	c.cfg.Host.Expect() // most are started at once
	d := c.blank(img)
	d.ImageRef, d.HostConfig = r.Spec.Image, r.HostConfig
	if d.Spec, err = merge(r.Spec, &img.Config); err != nil {
		return "", nil, err
	}
	said, err := c.extend(ctx, &d.Spec, img)
	if err != nil {
		return "", nil, err
	}
	size, err := checkSpec(&d.Spec)
	if err != nil {
		return "", nil, err
	}
	if err := c.completeSpec(ctx, d); err != nil {
		return "", nil, err
	}
	if d.Name, err = c.reserve(r.Name, d.ID); err != nil {
		return "", nil, err
	}
	var u undo.Stack
	defer u.Run(ctx, &err)
	u.Push("release name", func(context.Context) error { c.release(d.Name, d.ID); return nil })
	if usesVolumes(&d.Spec) {
		if err := c.volumes.acquire(ctx); err != nil {
			return "", nil, err
		}
		defer c.volumes.release()
	}
	m := made{undo: &u}
	if err := c.build(ctx, d, size, &m); err != nil {
		return "", nil, err
	}
	fault.Point("container.made")
	if err := c.enrol(ctx, &m, []*brig.Container{d}, nil); err != nil {
		return "", nil, err
	}
	u.Release()
	c.event(d, "create")
	return d.ID, slices.Concat(c.platformWarnings(r.Platform, img.Platform), said, m.warnings, c.cfg.Host.Warnings(&d.Spec)), nil
}

// extend adds to the Spec of a container of its own what an image that came as an ACI says beyond Docker's words.
func (c *Containers) extend(ctx context.Context, s *brig.Spec, img *brig.Image) (warnings []string, err error) {
	if !img.ACI.Own {
		return nil, nil
	}
	_, manifest, err := c.cfg.ACIs.ACIDocument(ctx, img.ID)
	if err != nil {
		return nil, err
	}
	return podspec.Extend(s, manifest)
}

// blank is a new container of an image.
func (c *Containers) blank(img *brig.Image) *brig.Container {
	return &brig.Container{
		ID: brig.NewID(), Created: time.Now().UTC(), Image: img.ID, Platform: img.Platform, RootFS: brig.NewRID(), Chain: img.Chain(), Driver: c.cfg.Driver,
	}
}

// platformWarnings is dockerd's warning of an image for another platform that nobody has asked for.
func (c *Containers) platformWarnings(asked string, has brig.Platform) []string {
	suits := func(p brig.Platform) bool { return p.Suits(has) }
	if asked != "" || len(c.cfg.Platforms) == 0 || slices.ContainsFunc(c.cfg.Platforms, suits) {
		return nil
	}
	return []string{fmt.Sprintf("The requested image's platform (%s) does not match the detected host platform (%s) and no specific platform was requested", has, c.cfg.Platforms[0])}
}

// build makes d's volumes and root file system, which no record names yet.
func (c *Containers) build(ctx context.Context, d *brig.Container, size int64, m *made) (err error) {
	if d.Mounts, err = c.resolveMounts(ctx, &d.Spec, m); err != nil {
		return err
	}
	c.hide(d.RootFS, false)
	m.undo.Push("forget root file system", func(context.Context) error { c.unhide(d.RootFS); return nil })
	m.undo.Push("remove root file system", func(ctx context.Context) error { return c.cfg.RootFS.Remove(ctx, d.RootFS) })
	if err := c.cfg.RootFS.Prepare(ctx, d.RootFS, d.Chain, size); err != nil {
		return errs.Wrap(err, "make root file system")
	}
	if err := c.fill(ctx, d, m); err != nil {
		return err
	}
	masked, err := c.appcTargets(ctx, d)
	m.warnings = append(m.warnings, masked...)
	return err
}

// enrol records containers that are built, with their names, the volumes that were made for them, and the pod that they are the apps of if there is
// one, in one transaction: that is the commit of a create. Then it shows them.
func (c *Containers) enrol(ctx context.Context, m *made, all []*brig.Container, p *pod) error {
	puts, err := m.records()
	if err != nil {
		return err
	}
	if p != nil {
		rec, err := podRecord(p.rec)
		if err != nil {
			return err
		}
		rec.New = true
		puts = append(puts, rec, brig.Record{Kind: kindName, Key: p.rec.Name, Value: []byte(p.id), New: true})
	}
	var cts []*container
	for _, d := range all {
		ct := &container{id: d.ID, lock: newLock(), rec: d}
		rec, err := c.encode(ct, d)
		if err != nil {
			return err
		}
		rec.New = true
		puts = append(puts, rec, brig.Record{Kind: kindName, Key: d.Name, Value: []byte(d.ID), New: true})
		cts = append(cts, ct)
	}
	if err := c.cfg.Records.Put(ctx, puts, nil); err != nil {
		return errs.Wrap(err, "save container %s", all[0].ID.Short())
	}
	fault.Point("container.recorded")
	c.addVolumes(m.volumes)
	c.mu.Lock()
	defer c.mu.Unlock()
	if p != nil {
		c.pods[p.rec.UUID()] = p
	}
	for _, ct := range cts {
		c.byID[ct.id] = ct
		delete(c.making, ct.rec.RootFS)
	}
	return nil
}

func usesVolumes(s *brig.Spec) bool {
	return len(s.Volumes) > 0 || len(s.VolumesFrom) > 0 ||
		slices.ContainsFunc(s.Mounts, func(m brig.Mount) bool { return m.Type == brig.MountVolume })
}

// checkSpec refuses what can be known to fail, and returns the root file system's quota in bytes.
func checkSpec(s *brig.Spec) (size int64, err error) {
	if s.StopSignal != "" {
		if _, err := signal.ParseSignal(s.StopSignal); err != nil {
			return 0, errs.As(errs.Invalid, err)
		}
	}
	switch s.Restart.Name {
	case "", "no", "always", "unless-stopped", "on-failure":
	default:
		return 0, errs.New(errs.Invalid, "invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", s.Restart.Name)
	}
	if s.AutoRemove && restarts(s.Restart) {
		return 0, errs.New(errs.Invalid, "can't create 'AutoRemove' container with restart policy")
	}
	if err := logopts.Validate(logopts.Merge(s.Log, brig.LogConfig{})); err != nil {
		return 0, err
	}
	for k, v := range s.StorageOpt {
		if k != "size" {
			return 0, errs.New(errs.Invalid, "unknown storage option %q", k)
		}
		if size, err = units.RAMInBytes(v); err != nil {
			return 0, errs.New(errs.Invalid, "invalid storage option size=%q: %w", v, err)
		}
	}
	return size, nil
}

// completeSpec fills in what follows from the rest: host name, network names, paths.
func (c *Containers) completeSpec(ctx context.Context, d *brig.Container) error {
	s := &d.Spec
	net := networkMode(s)
	shared := strings.HasPrefix(net, "container:")
	if s.Hostname == "" && !shared {
		s.Hostname = d.ID.Short()
		if s.UTSMode == "host" || net == "host" {
			name, err := os.Hostname()
			if err != nil {
				return errs.Wrap(err, "find the host's name")
			}
			s.Hostname = name
		}
	}
	if !shared {
		d.Endpoints = c.membership(ctx, s, net)
	}
	if err := c.resolveLinks(s); err != nil {
		return err
	}
	dir := c.dir(d.ID)
	d.HostnamePath, d.HostsPath, d.ResolvConfPath = filepath.Join(dir, "hostname"), filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	if logopts.Readable(s.Log) {
		d.LogPath = filepath.Join(dir, string(d.ID)+"-json.log")
	}
	return nil
}

// networkMode is the effective one: never empty or "default".
func networkMode(s *brig.Spec) string {
	switch {
	case s.NetworkDisabled:
		return "none"
	case s.NetworkMode == "default":
		return "bridge"
	}
	return cmp.Or(s.NetworkMode, "bridge")
}

// Rename gives a container another name.
func (c *Containers) Rename(ctx context.Context, ref, name string) (err error) {
	name = strings.TrimPrefix(name, "/")
	if ref == "" || name == "" {
		return errs.New(errs.Invalid, "Neither old nor new names may be empty")
	}
	ct, err := c.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer ct.lock.release()
	if err := brig.CheckName("container", name); err != nil {
		return errs.Wrap(err, "Error when allocating new name")
	}
	next := c.record(ct).Clone()
	old := next.Name
	if err := c.belongs(next, "it is named after the pod"); err != nil {
		return err
	}
	if name == old {
		return errs.New(errs.Invalid, "Renaming a container with the same name as its current name")
	}
	if _, err := c.reserve(name, ct.id); err != nil {
		return errs.Wrap(err, "Error when allocating new name")
	}
	next.Name = name
	for net, ep := range next.Endpoints {
		if len(ep.DNSNames) > 0 {
			ep.DNSNames = next.DNSNames(ep.Spec.Aliases)
			next.Endpoints[net] = ep
		}
	}
	rec, err := c.encode(ct, next)
	if err == nil {
		err = c.put(ctx, next, []brig.Record{rec, {Kind: kindName, Key: name, Value: []byte(ct.id), New: true}},
			[]brig.Record{{Kind: kindName, Key: old}})
	}
	if err != nil {
		c.release(name, ct.id)
		return errs.Wrap(err, "rename container %s", ct.id.Short())
	}
	fault.Point("rename.recorded")
	c.show(ct, next)
	c.release(old, ct.id)
	if err := c.cfg.Members.Rename(context.WithoutCancel(ctx), next); err != nil {
		c.log.Warn("tell networks of a new name", "container", ct.id.Short(), "err", err)
	}
	c.event(next, "rename", "oldName", "/"+old)
	return nil
}

// Remove removes a container that doesn't run; with Force it is killed first. With Volumes its anonymous volumes go too.
func (c *Containers) Remove(ctx context.Context, ref string, o brig.RemoveOptions) error {
	if o.Link {
		return c.removeLink(ctx, ref)
	}
	if app, err := c.find(ref); err == nil {
		if p := c.podOf(c.record(app)); p != nil {
			return c.removeByApp(ctx, p, app, o)
		}
	}
	ct, err := c.claim(ref, o.Force)
	if err != nil {
		return err
	}
	defer func() {
		c.mu.Lock()
		ct.removing = false
		c.mu.Unlock()
	}()
	ctx = context.WithoutCancel(ctx)
	if err := c.quiet(ctx, ct, o.Force); err != nil {
		return err
	}
	defer ct.lock.release()
	c.mu.Lock()
	gone, ofStep := ct.gone, ct.rec.Tree != ""
	c.mu.Unlock()
	switch {
	case gone && ofStep: // its build was quicker, when it had been killed
		return nil
	case gone:
		return errs.New(errs.NotFound, "No such container: %s", ref)
	}
	return c.destroy(ctx, ct, o.Volumes)
}

// quiet takes ct's lock at a moment when it isn't active; force kills it, and again if a start came first. The caller releases the lock.
func (c *Containers) quiet(ctx context.Context, ct *container, force bool) error {
	for {
		if force {
			if err := c.kill(ctx, ct); err != nil {
				return errs.Wrap(err, "cannot remove container %q: could not kill", "/"+c.record(ct).Name)
			}
		}
		if err := ct.lock.acquire(ctx); err != nil {
			return err
		}
		rec := c.record(ct)
		if !rec.State.Active() {
			return nil
		}
		ct.lock.release()
		if !force {
			return errs.New(errs.Conflict, "cannot remove container %q: container is %s: stop the container before removing or force remove", "/"+rec.Name, rec.State)
		}
	}
}

// claim finds the container to remove and marks it.
func (c *Containers) claim(ref string, force bool) (*container, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct, err := c.findLocked(ref)
	if err != nil {
		return nil, err
	}
	if ct.removing {
		return nil, errs.New(errs.Conflict, "removal of container %s is already in progress", ref)
	}
	if st := ct.rec.State; st.Active() && !force {
		why := "stop the container before removing or force remove"
		if st == brig.Paused {
			return nil, errs.New(errs.Conflict, "cannot remove container %q: container is paused and must be unpaused first", "/"+ct.rec.Name)
		}
		return nil, errs.New(errs.Conflict, "cannot remove container %q: container is %s: %s", "/"+ct.rec.Name, st, why)
	}
	ct.removing = true
	return ct, nil
}

// destroy removes a container that has no process. The records go first, in one transaction: from then on a crash leaves only what
// the next sweep removes. If something can't be removed the container comes back as Dead, so that it can be tried again.
// The caller holds ct's lock.
func (c *Containers) destroy(ctx context.Context, ct *container, volumes bool) (err error) {
	defer c.timed("delete", &err)()
	cur := c.record(ct)
	next := cur.Clone()
	if err := move(next, brig.Removing); err != nil {
		return err
	}
	deletes := []brig.Record{{Kind: kindContainer, Key: string(ct.id)}, {Kind: kindName, Key: cur.Name}}
	var vols []*brig.Volume
	volumes = volumes || cur.Tree != "" // no record has those of a build's step
	if volumes && slices.ContainsFunc(cur.Mounts, func(m brig.MountPoint) bool { return m.Anonymous }) {
		if err := c.volumes.acquire(ctx); err != nil {
			return err
		}
		defer c.volumes.release()
		vols = c.ownVolumes(cur)
		for _, v := range vols {
			deletes = append(deletes, brig.Record{Kind: kindVolume, Key: v.Name})
		}
	}
	c.show(ct, next)
	if err := c.put(ctx, cur, nil, deletes); err != nil {
		c.show(ct, cur)
		return errs.Wrap(err, "remove container %s", ct.id.Short())
	}
	fault.Point("container.forgotten")
	if err := c.wipe(ctx, cur); err != nil {
		return errors.Join(errs.Wrap(err, "container %s", ct.id), c.dead(ctx, ct, next, vols))
	}
	fault.Point("container.wiped")
	err = c.dropVolumes(ctx, vols)
	c.forget(ct)
	return err
}

// ownVolumes lists d's anonymous volumes that no other container uses.
func (c *Containers) ownVolumes(d *brig.Container) []*brig.Volume {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := map[string]*brig.Volume{}
	for _, m := range d.Mounts {
		if v := c.vols[m.Name]; m.Anonymous && v != nil && len(c.volumeUsers(m.Name, d.ID)) == 0 {
			own[m.Name] = v
		}
	}
	return slices.Collect(maps.Values(own))
}

// wipe deletes what a container has on disk; every part is tried.
func (c *Containers) wipe(ctx context.Context, d *brig.Container) error {
	var root error
	if d.Tree == "" {
		root = errs.Wrap(c.cfg.RootFS.Remove(ctx, d.RootFS), "remove root file system")
	}
	return errors.Join(
		root,
		erase.All(c.runDir(d.RootFS)),
		os.RemoveAll(c.dir(d.ID)))
}

// dead brings the records of a container back whose removal failed.
func (c *Containers) dead(ctx context.Context, ct *container, next *brig.Container, vols []*brig.Volume) error {
	next = next.Clone()
	if err := move(next, brig.Dead); err != nil {
		return err
	}
	c.show(ct, next)
	rec, err := c.encode(ct, next)
	puts := []brig.Record{rec, {Kind: kindName, Key: next.Name, Value: []byte(ct.id)}}
	for _, v := range vols {
		r, e := volumeRecord(v)
		err = errors.Join(err, e)
		puts = append(puts, r)
	}
	if err != nil {
		return err
	}
	return errs.Wrap(c.put(ctx, next, puts, nil), "keep the record of container %s", ct.id.Short())
}

// forget drops a removed container from memory and wakes who waits for that. Who waits for the removal of a pod's app is told when the pod is gone
// too (destroyPod): its volumes and its name are what a removal of the app frees.
func (c *Containers) forget(ct *container) {
	c.mu.Lock()
	d := ct.rec
	delete(c.byID, ct.id)
	if c.byName[d.Name] == ct.id {
		delete(c.byName, d.Name)
	}
	for id, x := range c.execs {
		if x.ct == ct {
			delete(c.execs, id)
		}
	}
	ct.gone = true
	inPod := c.pods[d.Pod] != nil
	c.mu.Unlock()
	c.cfg.Freed()
	c.event(d, "destroy")
	c.endPending(ct)
	c.wake(ct, exitOf(d), brig.WaitNotRunning, brig.WaitNextExit)
	if !inPod {
		c.wake(ct, exitOf(d), brig.WaitRemoved)
	}
}

func exitOf(d *brig.Container) brig.Exit {
	return brig.Exit{Code: d.ExitCode, Time: d.FinishedAt, OOMKilled: d.OOMKilled}
}
