package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/tarfs"
	"github.com/brigd/brig/internal/undo"
)

// made collects what a create has made so far: its volumes are recorded together with the container.
type made struct {
	undo     *undo.Stack
	volumes  []*brig.Volume
	warnings []string // of what mounts mask
}

// records returns the records of the volumes.
func (m *made) records() ([]brig.Record, error) {
	var out []brig.Record
	for _, v := range m.volumes {
		r, err := volumeRecord(v)
		if err != nil {
			return nil, err
		}
		r.New = true
		out = append(out, r)
	}
	return out, nil
}

func volumeRecord(v *brig.Volume) (brig.Record, error) {
	b, err := json.Marshal(v)
	return brig.Record{Kind: kindVolume, Key: v.Name, Value: b}, errs.Wrap(err, "encode volume %s", v.Name)
}

// volumeFor returns the volume that spec names; if there is none it makes one in m. The caller holds the volumes lock.
func (c *Containers) volumeFor(ctx context.Context, spec brig.VolumeSpec, m *made) (*brig.Volume, error) {
	if err := checkVolume(spec); err != nil {
		return nil, err
	}
	if spec.Name != "" {
		c.mu.Lock()
		v := c.vols[spec.Name]
		c.mu.Unlock()
		if v != nil {
			return v, nil
		}
		for _, v := range m.volumes {
			if v.Name == spec.Name {
				return v, nil
			}
		}
	}
	v, err := c.makeVolume(ctx, spec, m.undo)
	if err == nil {
		m.volumes = append(m.volumes, v)
	}
	return v, err
}

func checkVolume(spec brig.VolumeSpec) error {
	if spec.Driver != "" && spec.Driver != "local" {
		return errs.New(errs.NotFound, "create %s: error looking up volume plugin %s: plugin %q not found", spec.Name, spec.Driver, spec.Driver)
	}
	if len(spec.Name) == 1 {
		return errs.New(errs.Invalid, "create %s: volume name is too short, names should be at least two alphanumeric characters", spec.Name)
	}
	if spec.Name != "" && brig.CheckName("volume", spec.Name) != nil {
		return errs.New(errs.Invalid, "create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. "+
			"If you intended to pass a host directory, use absolute path", spec.Name, spec.Name)
	}
	return errs.Wrap(checkVolumeOptions(spec.Options), "create %s", spec.Name)
}

// checkVolumeOptions refuses what dockerd's local driver does, in its words.
func checkVolumeOptions(options map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(options)) {
		if !slices.Contains([]string{"type", "o", "device", "size"}, k) {
			return errs.New(errs.Invalid, "invalid option: %q", k)
		}
	}
	for _, need := range [][2]string{{"device", "type"}, {"o", "device"}, {"o", "type"}, {"type", "device"}} {
		_, given := options[need[0]]
		if _, ok := options[need[1]]; given && !ok {
			return errs.New(errs.Invalid, "missing required option: %q", need[1])
		}
	}
	if device, given := options["device"]; given && (device == "" || options["type"] == "") {
		return errs.New(errs.Invalid, "missing device or type in volume options")
	}
	if _, given := options["size"]; given && options["device"] != "" {
		return errs.New(errs.Invalid, "quota size requested but no quota support: brig can't limit what is mounted from elsewhere")
	}
	return nil
}

// volumeData makes where v's content is, or will be mounted. A quota that the driver can't hold is refused in dockerd's words.
func (c *Containers) volumeData(ctx context.Context, v *brig.Volume, size int64) (string, error) {
	if _, foreign := v.Mount(); foreign {
		return c.cfg.VolumeData.MakeMountPoint(ctx, v.Dataset)
	}
	path, err := c.cfg.VolumeData.MakeVolume(ctx, v.Dataset, size)
	if size != 0 && errs.Is(err, errs.NotImplemented) {
		err = errs.New(errs.Invalid, "quota size requested but no quota support: %w", err)
	}
	return path, err
}

// makeVolume makes a volume's data; a step on u takes it back. No record names it yet.
func (c *Containers) makeVolume(ctx context.Context, spec brig.VolumeSpec, u *undo.Stack) (*brig.Volume, error) {
	var size int64
	if s := spec.Options["size"]; s != "" {
		n, err := units.RAMInBytes(s)
		if err != nil {
			return nil, errs.New(errs.Invalid, "create %s: invalid size %q: %w", spec.Name, s, err)
		}
		size = n
	}
	v := &brig.Volume{VolumeSpec: spec, Dataset: brig.NewRID(), Created: time.Now().UTC().Format(time.RFC3339), Anonymous: spec.Name == ""}
	v.Name, v.Driver = cmp.Or(spec.Name, string(brig.NewID())), "local"
	c.hide(v.Dataset, true)
	u.Push("forget volume", func(context.Context) error { c.unhide(v.Dataset); return nil })
	u.Push("remove volume", func(ctx context.Context) error { return c.cfg.VolumeData.RemoveVolume(ctx, v.Dataset) })
	path, err := c.volumeData(ctx, v, size)
	fault.Point("volume.unrecorded")
	v.Mountpoint = path
	return v, errs.Wrap(err, "create %s", v.Name)
}

// hide keeps a dataset that no record names yet from a sweep.
func (c *Containers) hide(id brig.RID, volume bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.making[id] = volume
}

func (c *Containers) unhide(id brig.RID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.making, id)
}

func (c *Containers) volumeEvent(name, action string) {
	c.cfg.Bus.Publish(brig.Event{Type: "volume", Action: action, ActorID: name, Attributes: map[string]string{"driver": "local"}, Time: time.Now()})
}

// addVolumes shows volumes that have been recorded.
func (c *Containers) addVolumes(vs []*brig.Volume) {
	c.mu.Lock()
	for _, v := range vs {
		c.vols[v.Name] = v
		delete(c.making, v.Dataset)
	}
	c.mu.Unlock()
	for _, v := range vs {
		c.volumeEvent(v.Name, "create")
	}
}

// VolumeCreate makes a volume, or returns the one that has the name already.
func (c *Containers) VolumeCreate(ctx context.Context, spec brig.VolumeSpec) (_ *brig.Volume, err error) {
	if err := c.volumes.acquire(ctx); err != nil {
		return nil, err
	}
	defer c.volumes.release()
	var u undo.Stack
	defer u.Run(ctx, &err)
	m := made{undo: &u}
	v, err := c.volumeFor(ctx, spec, &m)
	if err != nil {
		return nil, err
	}
	if len(m.volumes) > 0 {
		recs, err := m.records()
		if err != nil {
			return nil, err
		}
		if err := c.cfg.Records.Put(ctx, recs, nil); err != nil {
			return nil, errs.Wrap(err, "save volume %s", v.Name)
		}
		u.Release()
		c.addVolumes(m.volumes)
	}
	out := *v
	return &out, nil
}

// VolumeGet returns a copy of the volume of that name.
func (c *Containers) VolumeGet(_ context.Context, name string) (*brig.Volume, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.vols[name]
	if v == nil {
		return nil, errs.New(errs.NotFound, "get %s: no such volume", name)
	}
	out := *v
	return &out, nil
}

// VolumeList returns copies of all volumes, sorted by name.
func (c *Containers) VolumeList(context.Context) ([]*brig.Volume, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*brig.Volume, 0, len(c.vols))
	for _, v := range c.vols {
		w := *v
		out = append(out, &w)
	}
	slices.SortFunc(out, func(a, b *brig.Volume) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// VolumeRemove removes a volume that no container uses. With force one that doesn't exist is removed already.
func (c *Containers) VolumeRemove(ctx context.Context, name string, force bool) error {
	if err := c.volumes.acquire(ctx); err != nil {
		return err
	}
	defer c.volumes.release()
	c.mu.Lock()
	v, users := c.vols[name], c.volumeUsers(name, "")
	c.mu.Unlock()
	if v == nil {
		if force {
			return nil
		}
		return errs.New(errs.NotFound, "get %s: no such volume", name)
	}
	if len(users) > 0 {
		return errs.New(errs.Conflict, "remove %s: volume is in use - [%s]", name, strings.Join(users, ", "))
	}
	if err := c.cfg.Records.Put(ctx, nil, []brig.Record{{Kind: kindVolume, Key: name}}); err != nil {
		return errs.Wrap(err, "remove %s", name)
	}
	fault.Point("volume.forgotten")
	return c.dropVolumes(context.WithoutCancel(ctx), []*brig.Volume{v})
}

// volumeUsers lists the containers other than but that use the volume. The caller holds mu.
func (c *Containers) volumeUsers(name string, but brig.ID) []string {
	var users []string
	for id, ct := range c.byID {
		if id != but && slices.ContainsFunc(ct.rec.Mounts, func(m brig.MountPoint) bool { return m.Type == brig.MountVolume && m.Name == name }) {
			users = append(users, string(id))
		}
	}
	slices.Sort(users)
	return users
}

// dropVolumes deletes the data of volumes whose records are deleted. One whose data stays gets its record back, so that
// removing it can be tried again. The caller holds the volumes lock.
func (c *Containers) dropVolumes(ctx context.Context, vs []*brig.Volume) error {
	var all []error
	for _, v := range vs {
		err := c.cfg.VolumeData.RemoveVolume(ctx, v.Dataset)
		fault.Point("volume.dropped")
		if err != nil {
			all = append(all, errs.Wrap(err, "remove volume %s", v.Name))
			r, err := volumeRecord(v)
			if err == nil {
				err = c.cfg.Records.Put(ctx, []brig.Record{r}, nil)
			}
			all = append(all, err)
			continue
		}
		c.mu.Lock()
		delete(c.vols, v.Name)
		c.mu.Unlock()
		c.cfg.Freed()
		c.volumeEvent(v.Name, "destroy")
	}
	return errors.Join(all...)
}

// fill copies what the image has at d's volumes into those that are still empty, as Docker does. The caller holds the
// volumes lock; the root file system exists and is mounted only for this.
func (c *Containers) fill(ctx context.Context, d *brig.Container, m *made) (err error) {
	var todo []brig.MountPoint
	for _, p := range d.Mounts {
		if p.Type == brig.MountVolume && !p.NoCopy && emptyDir(p.Source) {
			todo = append(todo, p)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	root := d.Tree
	if root == "" {
		if root, err = c.cfg.RootFS.Mount(ctx, d.RootFS); err != nil {
			return errs.Wrap(err, "mount root file system")
		}
		defer func() {
			err = errors.Join(err, c.cfg.RootFS.Unmount(context.WithoutCancel(ctx), d.RootFS))
		}()
	}
	for _, p := range todo {
		src, err := resolve([]place{{host: root, at: "/", rw: true}}, p.Target, true)
		if err != nil || !src.exists {
			continue // nothing there: the volume stays empty
		}
		if !src.info.IsDir() {
			return errs.New(errs.Invalid, "cannot mount volume over existing file, file exists %s", p.Target)
		}
		if err := c.fillVolume(ctx, d.ID, c.known(p.Name, m), p, src.path()); err != nil {
			return err
		}
	}
	return nil
}

// known returns the volume of that name, of this create or from before.
func (c *Containers) known(name string, m *made) *brig.Volume {
	for _, v := range m.volumes {
		if v.Name == name {
			return v
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.vols[name]
}

// fillVolume copies the directory from to v, which is mounted for this if it must be. The caller holds the volumes lock.
func (c *Containers) fillVolume(ctx context.Context, user brig.ID, v *brig.Volume, p brig.MountPoint, from string) (err error) {
	if _, foreign := v.Mount(); foreign {
		if err := c.mountVolume(ctx, v, user); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.unmountVolume(context.WithoutCancel(ctx), v, user)) }()
		if !emptyDir(p.Source) {
			return nil
		}
	}
	return errs.Wrap(tarfs.Copy(ctx, p.Source, from), "copy %s of the image to volume %s", p.Target, v.Name)
}

// emptyDir reports whether a directory holds nothing but what a file system puts there itself.
func emptyDir(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, err := f.Readdirnames(2)
	if err != nil && err != io.EOF {
		return false
	}
	return len(names) == 0 || (len(names) == 1 && names[0] == "lost+found")
}
