package podspec

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// mounts fills the app's mount points: by a mount of the same path, else by the pod's volume of the same name, else by an empty volume that
// the app has to itself. The last is said, since nobody asked for it, and refused with strict.
func (b *builder) mounts(a *schema.RuntimeApp, s *brig.Spec, docker bool, used map[string]bool) error {
	implicit := map[string]bool{}
	for _, mp := range a.App.MountPoints {
		if slices.ContainsFunc(a.Mounts, func(m schema.Mount) bool { return path.Clean(m.Path) == path.Clean(mp.Path) }) {
			continue
		}
		m := schema.Mount{Volume: mp.Name, Path: mp.Path}
		if b.volume(mp.Name) == nil {
			if b.strict {
				return errs.New(errs.Invalid, "mount point %s (%s): no volume is named for it", mp.Name, mp.Path)
			}
			b.warn("app %s: mount point %s (%s) gets an empty volume: none is named for it", a.Name, mp.Name, mp.Path)
			m.AppVolume = emptyVolume(mp.Name)
			implicit[mp.Path] = true
		}
		a.Mounts = append(a.Mounts, m)
	}
	for _, m := range a.Mounts {
		v, key := m.AppVolume, a.Name.String()+"/"+m.Volume.String()
		if v == nil {
			if v, key = b.volume(m.Volume), m.Volume.String(); v == nil {
				return errs.New(errs.Invalid, "mount at %s: the pod has no volume %s", m.Path, m.Volume)
			}
			used[key] = true
		}
		target, err := target(m.Path, s.Mounts)
		if err != nil {
			return err
		}
		mt, err := b.mount(a, v, key)
		if err != nil {
			return errs.Wrap(err, "volume %s", m.Volume)
		}
		mt.Target = target
		mt.ReadOnly = isTrue(v.ReadOnly) || slices.ContainsFunc(a.App.MountPoints, func(p types.MountPoint) bool {
			return p.ReadOnly && path.Clean(p.Path) == target
		})
		mt.NoCopy = !docker || !implicit[m.Path] // what a Docker image has at its volumes, its users expect in them
		s.Mounts = append(s.Mounts, mt)
	}
	return nil
}

func (b *builder) volume(name types.ACName) *types.Volume {
	for i := range b.pod.Manifest.Volumes {
		if v := &b.pod.Manifest.Volumes[i]; v.Name == name {
			return v
		}
	}
	return nil
}

func emptyVolume(name types.ACName) *types.Volume {
	mode, zero := "0755", 0
	return &types.Volume{Name: name, Kind: "empty", Mode: &mode, UID: &zero, GID: &zero}
}

// mount makes a mount of v, and has the pod make v if it is to be an empty directory.
func (b *builder) mount(a *schema.RuntimeApp, v *types.Volume, key string) (brig.Mount, error) {
	if v.Kind == "host" {
		if path.Clean(v.Source) != v.Source {
			return brig.Mount{}, errs.New(errs.Invalid, "source %q is not a clean path", v.Source)
		}
		return brig.Mount{Type: brig.MountBind, Source: v.Source, NonRecur: v.Recursive != nil && !*v.Recursive, Appc: true}, nil
	}
	m := brig.Mount{Type: brig.MountVolume, Source: key, Appc: true}
	if slices.ContainsFunc(b.pod.Volumes, func(have Volume) bool { return have.Key == key }) {
		return m, nil
	}
	out := Volume{Key: key, Name: v.Name.String()}
	if strings.Contains(key, "/") {
		out.App = a.Name.String()
	}
	mode, err := strconv.ParseUint(*v.Mode, 8, 32)
	if err != nil || mode > 0o7777 {
		return m, errs.New(errs.Invalid, "mode %q is not an octal number up to 7777", *v.Mode)
	}
	if *v.UID < 0 || *v.GID < 0 || int64(*v.UID) > 1<<32-2 || int64(*v.GID) > 1<<32-2 {
		return m, errs.New(errs.Invalid, "no such uid or gid: %d, %d", *v.UID, *v.GID)
	}
	out.Mode, out.UID, out.GID = uint32(mode), *v.UID, *v.GID
	b.pod.Volumes = append(b.pod.Volumes, out)
	return m, nil
}

// target checks where a mount shall be: not at the root, and neither above nor beneath another (ace.md, "Volume Setup").
func target(at string, others []brig.Mount) (string, error) {
	t := path.Clean(at)
	if !path.IsAbs(at) || t == "/" || slices.Contains(strings.Split(at, "/"), "..") {
		return "", errs.New(errs.Invalid, "mount at %q: not an absolute path beneath the root", at)
	}
	for _, o := range others {
		if o.Target == t || strings.HasPrefix(o.Target, t+"/") || strings.HasPrefix(t, o.Target+"/") {
			return "", errs.New(errs.Invalid, "the mounts at %s and %s overlap", o.Target, t)
		}
	}
	return t, nil
}

func isTrue(b *bool) bool { return b != nil && *b }
