package runtime

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/changes"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/tarfs"
)

// ImageMaker makes images of containers.
type ImageMaker interface {
	// MakeImage makes an image of another one and one layer more, whose uncompressed tar layer writes; nil: no layer. layer may be called
	// again. On an error nothing of it stays. ref is the familiar name that the image got, "" for none.
	MakeImage(ctx context.Context, n brig.NewImage, layer func(ctx context.Context, w io.Writer) error) (id brig.Digest, ref string, err error)
}

// Commit makes an image of what a container has become, as docker commit: its image's layers, one of what changed in its root file
// system (not in its mounts, and without the engine's own files), and its config. A running container is paused meanwhile if r says so.
func (c *Containers) Commit(ctx context.Context, r brig.CommitRequest) (_ brig.Digest, err error) {
	defer c.timed("commit", &err)()
	if r.Repository != "" { // before any work
		if _, err := tagRef(r.Repository, r.Tag); err != nil {
			return "", err
		}
	}
	ct, err := c.find(r.Container)
	if err != nil {
		return "", err
	}
	d := c.record(ct)
	switch d.State {
	case brig.Dead:
		return "", errs.New(errs.Conflict, "You cannot commit container %s which is Dead", d.ID)
	case brig.Removing:
		return "", errs.New(errs.Conflict, "You cannot commit container %s which is being removed", d.ID)
	}
	if d.Step {
		return "", errs.New(errs.Conflict, "You cannot commit container %s which has run a step of a build: its file system stands on more than its image has", d.ID)
	}
	config, err := commitConfig(&r, &d.Spec)
	if err != nil {
		return "", err
	}
	v, err := c.openFiles(ctx, string(d.ID))
	if err != nil {
		return "", err
	}
	defer v.close()
	if r.Pause {
		paused, err := c.freeze(ctx, ct)
		if err != nil {
			return "", err
		}
		if paused {
			defer func() { err = errors.Join(err, c.thaw(ctx, ct)) }()
		}
	}
	fault.Point("commit.frozen")
	all, err := c.cfg.RootFS.Diff(ctx, d.RootFS)
	if err != nil {
		return "", errs.Wrap(err, "find what container %s changed", d.ID.Short())
	}
	var layer func(context.Context, io.Writer) error
	if own := hideFurniture(all); len(own) > 0 {
		layer = func(ctx context.Context, w io.Writer) error { return tarfs.PackChanges(ctx, w, v.places[0].host, own) }
	}
	id, ref, err := c.cfg.Maker.MakeImage(ctx, brig.NewImage{
		Parent: d.Image, Platform: d.Platform, Config: config, Repository: r.Repository, Tag: r.Tag,
		Author: r.Author, Comment: r.Comment, CreatedBy: strings.Join(d.Spec.Cmd, " "),
	}, layer)
	if err != nil {
		return "", err
	}
	fault.Point("commit.made")
	c.event(d, "commit", "comment", r.Comment, "imageID", string(id), "imageRef", ref)
	return id, nil
}

// freeze pauses a container that runs, and reports whether it did. The record goes on saying that it runs, so that a brigd that has to take
// over lets it go on.
func (c *Containers) freeze(ctx context.Context, ct *container) (bool, error) {
	if err := ct.lock.acquire(ctx); err != nil {
		return false, err
	}
	defer ct.lock.release()
	d := c.record(ct)
	if d.State != brig.Running {
		return false, nil
	}
	next := d.Clone()
	if err := move(next, brig.Paused); err != nil {
		return false, err
	}
	if err := c.cfg.Freezer.Pause(ctx, d.Handle); err != nil {
		return false, errors.Join(errs.Wrap(err, "cannot pause container %s", ct.id), c.cfg.Freezer.Resume(context.WithoutCancel(ctx), d.Handle))
	}
	c.show(ct, next)
	c.event(next, "pause")
	return true, nil
}

// thaw ends a freeze, unless somebody else has, or has ended the container.
func (c *Containers) thaw(ctx context.Context, ct *container) error {
	err := c.Unpause(context.WithoutCancel(ctx), string(ct.id))
	if errs.Is(err, errs.Conflict) || errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// commitConfig is the config of the image: the request's if it brings one, else the container's, with the changes carried out; what it
// then leaves open is the container's.
func commitConfig(r *brig.CommitRequest, s *brig.Spec) (brig.ImageConfig, error) {
	own := brig.ImageConfig{
		User: s.User, Env: s.Env, Entrypoint: s.Entrypoint, Cmd: s.Cmd, WorkingDir: s.WorkingDir, Volumes: s.Volumes, Exposed: s.Exposed,
		Labels: s.Labels, StopSignal: s.StopSignal, Shell: s.Shell, OnBuild: s.OnBuild, Health: s.Health,
	}
	c := own
	if r.Config != nil {
		c = *r.Config
	}
	c, err := changes.Apply(c, r.Changes)
	if err != nil {
		return c, err
	}
	inherit(&c.User, own.User)
	inherit(&c.WorkingDir, own.WorkingDir)
	inherit(&c.StopSignal, own.StopSignal)
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = slices.Clone(own.Cmd)
		}
		if c.Entrypoint == nil {
			c.Entrypoint = slices.Clone(own.Entrypoint)
		}
	}
	c.Env = mergeEnv(c.Env, own.Env)
	c.Labels = mergeLabels(c.Labels, own.Labels)
	c.Exposed = union(c.Exposed, own.Exposed)
	c.Volumes = union(c.Volumes, own.Volumes)
	c.Health = mergeHealth(c.Health, own.Health)
	return c, nil
}
