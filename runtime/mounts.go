package runtime

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// noSource is dockerd's refusal of a bind mount from nowhere.
func noSource(path string) error {
	return errs.New(errs.Invalid, "invalid mount config for type \"bind\": bind source path does not exist: %s", path)
}

// resolveMounts turns what the merged Spec asks for into mount points, outer targets first. Volumes that don't exist yet are
// made in m. On one target, a mount asked for wins over one from another container, and that over an anonymous volume.
func (c *Containers) resolveMounts(ctx context.Context, s *brig.Spec, m *made) ([]brig.MountPoint, error) {
	at := map[string]brig.MountPoint{}
	for _, ref := range s.VolumesFrom {
		from, err := c.mountsFrom(ref)
		if err != nil {
			return nil, errs.As(errs.Invalid, err) // NotFound would have clients pull the image
		}
		for _, p := range from {
			at[p.Target] = p
		}
	}
	for _, mt := range s.Mounts {
		p, err := c.resolveMount(ctx, mt, m)
		if err != nil {
			return nil, err
		}
		at[p.Target] = p
	}
	for _, target := range s.Volumes {
		target = path.Clean("/" + target)
		if _, taken := at[target]; taken {
			continue
		}
		p, err := c.resolveMount(ctx, brig.Mount{Type: brig.MountVolume, Target: target}, m)
		if err != nil {
			return nil, err
		}
		at[target] = p
	}
	out := make([]brig.MountPoint, 0, len(at))
	for _, p := range at {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b brig.MountPoint) int {
		return cmp.Or(cmp.Compare(strings.Count(a.Target, "/"), strings.Count(b.Target, "/")), cmp.Compare(a.Target, b.Target))
	})
	return out, nil
}

// mountsFrom returns the mount points of another container, ref[:ro|rw].
func (c *Containers) mountsFrom(ref string) ([]brig.MountPoint, error) {
	ref, mode, _ := strings.Cut(ref, ":")
	if !slices.Contains([]string{"", "ro", "rw", "z", "Z"}, mode) {
		return nil, errs.New(errs.Invalid, "invalid mode for volumes-from: %s", mode)
	}
	ct, err := c.find(ref)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(c.record(ct).Mounts)
	for i := range out {
		out[i].RW = out[i].RW && mode != "ro"
		out[i].Mode, out[i].NoCopy = mode, true
	}
	return out, nil
}

func (c *Containers) resolveMount(ctx context.Context, mt brig.Mount, m *made) (brig.MountPoint, error) {
	p := brig.MountPoint{Type: mt.Type, Target: path.Clean("/" + mt.Target), Mode: mt.Mode, RW: !mt.ReadOnly, Propagation: mt.Propagation, NonRecur: mt.NonRecur}
	switch mt.Type {
	case brig.MountBind:
		p.Source = filepath.Clean(mt.Source)
		p.Propagation = cmp.Or(p.Propagation, "rprivate")
		if mt.Appc {
			return p, plainSource(p.Source)
		}
		if _, err := os.Stat(p.Source); err != nil && !mt.CreateSrc {
			return p, noSource(mt.Source)
		}
	case brig.MountTmpfs:
		p.Options = tmpfsOptions(mt)
	case brig.MountVolume:
		spec := mt.VolumeOpts
		spec.Name = cmp.Or(spec.Name, mt.Source)
		v, err := c.volumeFor(ctx, spec, m)
		if err != nil {
			return p, err
		}
		p.Name, p.Source, p.Driver, p.Anonymous = v.Name, v.Mountpoint, "local", v.Anonymous
		p.NoCopy = mt.NoCopy || mt.Subpath != ""
	default:
		return p, errs.New(errs.Invalid, "mount type unknown: %q", mt.Type)
	}
	return p, nil
}

// tmpfsOptions are Docker's defaults with the request's words over them.
func tmpfsOptions(mt brig.Mount) []string {
	opts := []string{"noexec", "nosuid", "nodev"}
	set := func(o string) {
		name := envKey(o)
		opts = slices.DeleteFunc(opts, func(have string) bool {
			h := envKey(have)
			return h == name || h == "no"+name || "no"+h == name || (h == "ro" && name == "rw") || (h == "rw" && name == "ro")
		})
		opts = append(opts, o)
	}
	for o := range strings.SplitSeq(mt.TmpfsOpts, ",") {
		if o != "" {
			set(o)
		}
	}
	if mt.ReadOnly {
		set("ro")
	}
	if mt.TmpfsSize > 0 {
		set(fmt.Sprintf("size=%d", mt.TmpfsSize))
	}
	if mt.TmpfsMode != 0 {
		set(fmt.Sprintf("mode=%o", mt.TmpfsMode))
	}
	return opts
}

// jailMounts makes the jail's mounts from d's mount points: bind sources that shall be there are, or are made.
func jailMounts(d *brig.Container) ([]brig.JailMount, error) {
	var out []brig.JailMount
	for _, p := range d.Mounts {
		if p.Type == brig.MountTmpfs {
			out = append(out, brig.JailMount{Type: p.Type, Source: "tmpfs", Target: p.Target, Options: p.Options})
			continue
		}
		src, err := hostSource(d, p)
		if err != nil {
			return nil, err
		}
		out = append(out, brig.JailMount{Type: brig.MountBind, Source: src, Target: p.Target, Options: bindOptions(p)})
	}
	return out, nil
}

// bindOptions never has rw: crun would make a writable mount of what the host mounted read-only.
func bindOptions(p brig.MountPoint) []string {
	opts := []string{"rbind", cmp.Or(p.Propagation, "rprivate")}
	if p.NonRecur {
		opts = []string{"bind", strings.TrimPrefix(opts[1], "r")} // crun takes rprivate's r for that of rbind
	}
	if !p.RW {
		opts = append(opts, "ro")
	}
	return opts
}

// asked returns the request's mount for target, zero if it came about otherwise.
func asked(s *brig.Spec, target string) brig.Mount {
	for _, mt := range s.Mounts {
		if path.Clean("/"+mt.Target) == target {
			return mt
		}
	}
	return brig.Mount{}
}

// hostSource returns what on the host p shows.
func hostSource(d *brig.Container, p brig.MountPoint) (string, error) {
	mt := asked(&d.Spec, p.Target)
	if p.Type == brig.MountVolume {
		if mt.Subpath == "" {
			return p.Source, nil
		}
		src, err := securejoin.SecureJoin(p.Source, mt.Subpath)
		if err != nil {
			return "", errs.Wrap(err, "subpath %s of volume %s", mt.Subpath, p.Name)
		}
		if _, err := os.Stat(src); err != nil {
			return "", errs.New(errs.Invalid, "cannot access path %s of volume %s: %w", mt.Subpath, p.Name, err)
		}
		return src, nil
	}
	if mt.Appc {
		return p.Source, plainSource(p.Source)
	}
	if _, err := os.Stat(p.Source); err == nil || !os.IsNotExist(err) {
		return p.Source, nil
	}
	if !mt.CreateSrc {
		return "", noSource(p.Source)
	}
	if err := os.MkdirAll(p.Source, 0o755); err != nil {
		return "", errs.Wrap(err, "error while creating mount source path '%s'", p.Source)
	}
	return p.Source, nil
}
