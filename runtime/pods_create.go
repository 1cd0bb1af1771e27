package runtime

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/discovery"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/logopts"
	"github.com/brigd/brig/internal/podspec"
	"github.com/brigd/brig/internal/undo"
)

// ACISource knows images by what appc calls them.
type ACISource interface {
	// FindACI finds the image that has the ID, or the name and labels; the newest of several. ref is one of Docker's names for it, or its ID. NotFound.
	FindACI(ctx context.Context, d brig.ACIDependency) (id brig.Digest, ref string, err error)
	// ACIDocument returns an image's ACI ID, "sha512-…", which is computed if it isn't known yet, and the exact bytes of its appc manifest.
	ACIDocument(ctx context.Context, id brig.Digest) (aciID string, manifest []byte, err error)
}

// Labels of an app's container.
const (
	labelPodUUID = "io.brig.pod.uuid"
	labelPodName = "io.brig.pod.name"
	labelApp     = "io.brig.app"
)

// appImage is the image of one app.
type appImage struct {
	*brig.Image
	doc podspec.Image
}

// PodReify makes a pod's manifest and changes nothing.
func (c *Containers) PodReify(ctx context.Context, r podspec.Request, set brig.PodSettings) (out *podspec.Pod, err error) {
	err = c.withApps(ctx, r, func(images []appImage) error {
		out, err = reify(r, &set, images)
		return err
	})
	return out, err
}

// PodCreate makes a pod: the containers of all its apps, and their volumes, or nothing. It is committed by one transaction, as a container is.
func (c *Containers) PodCreate(ctx context.Context, r podspec.Request, set brig.PodSettings) (out *brig.Pod, made *podspec.Pod, err error) {
	defer c.timed("create", &err)()
	err = c.withApps(ctx, r, func(images []appImage) error {
		if made, err = reify(r, &set, images); err != nil {
			return err
		}
		out, err = c.makePod(ctx, made, &set, images)
		return err
	})
	return out, made, err
}

// reify checks what the request says beside the manifest, and makes that.
func reify(r podspec.Request, set *brig.PodSettings, images []appImage) (*podspec.Pod, error) {
	s := &set.Spec
	if set.Name = strings.TrimPrefix(set.Name, "/"); set.Name != "" {
		if err := brig.CheckName("pod", set.Name); err != nil {
			return nil, err
		}
	}
	if mode, _, _ := strings.Cut(s.NetworkMode, ":"); mode == "container" {
		return nil, errs.New(errs.Invalid, "a pod can't be in the network of a container: %s", s.NetworkMode)
	}
	if set.AutoRemove && restarts(s.Restart) {
		return nil, errs.New(errs.Invalid, "a pod that is removed at its end can't have a restart policy")
	}
	if (s.TTY || s.OpenStdin) && len(images) != 1 {
		return nil, errs.New(errs.Invalid, "a terminal, or an open standard input, is for a pod of one app: this one has %d", len(images))
	}
	docs := make([]podspec.Image, len(images))
	for i := range images {
		docs[i] = images[i].doc
	}
	made, err := podspec.Reify(r, docs)
	if err != nil {
		return nil, err
	}
	for _, a := range made.Apps {
		if set.Name != "" {
			if err := brig.CheckName("container", appContainer(set.Name, a.Name)); err != nil {
				return nil, err
			}
		}
	}
	return made, nil
}

// appContainer is what the container of a pod's app is called.
func appContainer(pod, app string) string { return pod + "-" + app }

// withApps finds the images of all apps and keeps them from being removed while use runs.
func (c *Containers) withApps(ctx context.Context, r podspec.Request, use func([]appImage) error) error {
	wanted, err := r.Images()
	if err != nil {
		return err
	}
	ids := make([]brig.Digest, len(wanted))
	for i := range wanted {
		if ids[i], err = c.findApp(ctx, &wanted[i]); err != nil {
			return err
		}
	}
	held := map[brig.Digest]*brig.Image{}
	return c.holdImages(ctx, slices.Compact(slices.Sorted(slices.Values(ids))), held, func() error {
		out := make([]appImage, len(wanted))
		for i, id := range ids {
			img := held[id]
			aci, manifest, err := c.cfg.ACIs.ACIDocument(ctx, id)
			if err != nil {
				return err
			}
			out[i] = appImage{img, podspec.Image{Ref: wanted[i].Ref, ID: aci, Manifest: manifest, Config: img.Config}}
		}
		return use(out)
	})
}

// findApp finds an app's image: by Docker's names and IDs, else by appc's. w gets Docker's name if it had none of Docker's.
func (c *Containers) findApp(ctx context.Context, w *podspec.Wanted) (id brig.Digest, err error) {
	d := brig.ACIDependency{Name: w.Name, ID: w.ID, Labels: maps.Clone(w.Labels)}
	if w.Ref != "" {
		err := c.cfg.Images.With(ctx, w.Ref, "", func(img *brig.Image) error { id = img.ID; return nil })
		if err == nil {
			return id, nil
		}
		if !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Invalid) {
			return "", err
		}
		if strings.HasPrefix(w.Ref, "sha512-") {
			d.ID = w.Ref
		} else if n, e := discovery.ParseName(w.Ref); e == nil {
			d.Name, d.Labels = n.Name, n.Labels
		} else {
			return "", err
		}
		id, ref, e := c.cfg.ACIs.FindACI(ctx, d)
		if errs.Is(e, errs.NotFound) {
			return "", err
		}
		w.Ref = ref
		return id, e
	}
	if d.Labels["version"] == "latest" { // which pods.md has an executor resolve
		delete(d.Labels, "version")
	}
	id, w.Ref, err = c.cfg.ACIs.FindACI(ctx, d)
	return id, err
}

// holdImages keeps images from being removed, each once: one of them held twice would wait for a removal that waits for it.
func (c *Containers) holdImages(ctx context.Context, ids []brig.Digest, held map[brig.Digest]*brig.Image, use func() error) error {
	if len(ids) == 0 {
		return use()
	}
	return c.cfg.Images.With(ctx, string(ids[0]), "", func(img *brig.Image) error {
		held[ids[0]] = img
		return c.holdImages(ctx, ids[1:], held, use)
	})
}

// makePod makes what plan says.
func (c *Containers) makePod(ctx context.Context, plan *podspec.Pod, set *brig.PodSettings, images []appImage) (_ *brig.Pod, err error) {
	rec := &brig.Pod{ID: brig.NewID(), Created: time.Now().UTC(), Volumes: map[string]string{}, AutoRemove: set.AutoRemove, Spec: set.Spec}
	if rec.Manifest, err = plan.Document(); err != nil {
		return nil, err
	}
	if err := c.shareSpec(ctx, rec, plan); err != nil {
		return nil, err
	}
	var u undo.Stack
	defer u.Run(ctx, &err)
	if rec.Name, err = c.reserve(set.Name, rec.ID); err != nil {
		return nil, err
	}
	u.Push("release name", func(context.Context) error { c.release(rec.Name, rec.ID); return nil })
	if err := c.volumes.acquire(ctx); err != nil {
		return nil, err
	}
	defer c.volumes.release()
	m := &made{undo: &u}
	if err := c.emptyVolumes(ctx, rec, plan.Volumes, m); err != nil {
		return nil, err
	}
	var all []*brig.Container
	for i := range plan.Apps {
		d, err := c.makeApp(ctx, rec, &plan.Apps[i], images[i], m)
		if err != nil {
			return nil, errs.Wrap(err, "app %s", plan.Apps[i].Name)
		}
		rec.Apps = append(rec.Apps, brig.PodApp{Name: d.App, Container: d.ID, Ports: d.Spec.Exposed})
		all = append(all, d)
		for _, w := range slices.Concat(c.platformWarnings("", d.Platform), m.warnings, c.cfg.Host.Warnings(&d.Spec)) {
			plan.Warnings = append(plan.Warnings, "app "+d.App+": "+w)
		}
		m.warnings = nil
		fault.Point("pod.app.made")
	}
	if err := c.enrol(ctx, m, all, newPod(rec)); err != nil {
		return nil, err
	}
	u.Release()
	for _, d := range all {
		c.event(d, "create")
	}
	return rec.Clone(), nil
}

// shareSpec completes what the apps share.
func (c *Containers) shareSpec(ctx context.Context, rec *brig.Pod, made *podspec.Pod) error {
	s := &rec.Spec
	net := networkMode(s)
	s.Ports = append(slices.Clone(s.Ports), made.Ports...)
	if s.Hostname == "" {
		s.Hostname = rec.ID.Short()
		if net == "host" {
			name, err := os.Hostname()
			if err != nil {
				return errs.Wrap(err, "find the host's name")
			}
			s.Hostname = name
		}
	}
	if len(s.Hostname) > 64 {
		return errs.New(errs.Invalid, "the host name %s is longer than 64 bytes", s.Hostname)
	}
	rec.Endpoints = c.membership(ctx, s, net)
	return nil
}

// emptyVolumes makes the pod's empty volumes. The caller holds the volumes lock.
func (c *Containers) emptyVolumes(ctx context.Context, rec *brig.Pod, all []podspec.Volume, m *made) error {
	for _, v := range all {
		name := rec.ID.Short() + "-" + strings.ReplaceAll(v.Key, "/", ".")
		labels := map[string]string{labelPodUUID: rec.UUID(), labelPodName: rec.Name}
		vol, err := c.volumeFor(ctx, brig.VolumeSpec{Name: name, Labels: labels}, m)
		if err != nil {
			return errs.Wrap(err, "volume %s", v.Key)
		}
		if err := os.Chown(vol.Mountpoint, v.UID, v.GID); err != nil {
			return errs.Wrap(err, "volume %s", v.Key)
		}
		if err := os.Chmod(vol.Mountpoint, os.FileMode(v.Mode&0o777)|sticky(v.Mode)); err != nil {
			return errs.Wrap(err, "volume %s", v.Key)
		}
		rec.Volumes[v.Key] = name
	}
	return nil
}

// sticky are the bits of a mode beyond permissions, in io/fs's form.
func sticky(mode uint32) (out os.FileMode) {
	for bit, m := range map[uint32]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if mode&bit != 0 {
			out |= m
		}
	}
	return out
}

// makeApp makes the container of one app, its name reserved. The caller holds the volumes lock.
func (c *Containers) makeApp(ctx context.Context, rec *brig.Pod, a *podspec.App, img appImage, m *made) (*brig.Container, error) {
	d := c.blank(img.Image)
	d.Pod, d.App, d.ImageRef, d.Spec = rec.UUID(), a.Name, img.doc.Ref, a.Spec
	own, shared := &d.Spec, &rec.Spec
	own.Image = d.ImageRef
	own.Hostname, own.NetworkMode, own.NetworkDisabled, own.DNS, own.ShmSize = shared.Hostname, shared.NetworkMode, shared.NetworkDisabled, shared.DNS, shared.ShmSize
	own.TTY, own.OpenStdin, own.StdinOnce, own.Restart, own.Log = shared.TTY, shared.OpenStdin, shared.StdinOnce, shared.Restart, shared.Log
	labels := map[string]string{}
	maps.Copy(labels, a.Spec.Labels)
	maps.Copy(labels, shared.Labels)
	labels[labelPodUUID], labels[labelPodName], labels[labelApp] = rec.UUID(), rec.Name, a.Name
	own.Labels = labels
	own.Mounts = slices.Clone(a.Spec.Mounts)
	for i, mt := range own.Mounts {
		if name := rec.Volumes[mt.Source]; mt.Type == brig.MountVolume && name != "" {
			own.Mounts[i].Source = name
		}
	}
	size, err := checkSpec(own)
	if err != nil {
		return nil, err
	}
	box := c.box(rec)
	d.HostnamePath, d.HostsPath, d.ResolvConfPath = box.HostnamePath, box.HostsPath, box.ResolvConfPath
	if logopts.Readable(own.Log) {
		d.LogPath = filepath.Join(c.dir(d.ID), string(d.ID)+"-json.log")
	}
	d.Endpoints = maps.Clone(rec.Endpoints)
	if d.Name, err = c.reserve(appContainer(rec.Name, a.Name), d.ID); err != nil {
		return nil, err
	}
	m.undo.Push("release name", func(context.Context) error { c.release(d.Name, d.ID); return nil })
	return d, c.build(ctx, d, size, m)
}
