package dockerapi

import (
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// mounts translates -v, --mount, --tmpfs, --volumes-from and the anonymous volumes of Config, and refuses two on one path.
func (t *translation) mounts() error {
	if d := t.h.VolumeDriver; d != "" && d != "local" {
		return errs.New(errs.NotFound, "error looking up volume plugin %s: plugin %q not found", d, d)
	}
	for _, from := range t.h.VolumesFrom {
		if err := checkVolumesFrom(from); err != nil {
			return err
		}
	}
	t.spec.VolumesFrom = t.h.VolumesFrom
	for _, raw := range t.h.Binds {
		m, err := parseBind(raw)
		if err != nil {
			return err
		}
		t.spec.Mounts = append(t.spec.Mounts, m)
	}
	for i := range t.h.Mounts {
		m, err := mountSpec(&t.h.Mounts[i])
		if err != nil {
			return err
		}
		t.spec.Mounts = append(t.spec.Mounts, m)
	}
	for _, target := range slices.Sorted(maps.Keys(t.h.Tmpfs)) {
		m, err := tmpfsMount(target, t.h.Tmpfs[target])
		if err != nil {
			return err
		}
		t.spec.Mounts = append(t.spec.Mounts, m)
	}
	if err := noDuplicates(t.spec.Mounts); err != nil {
		return err
	}
	return t.anonymous()
}

func noDuplicates(mounts []brig.Mount) error {
	seen := map[string]bool{}
	for _, m := range mounts {
		if seen[m.Target] {
			return invalid("Duplicate mount point: %s", m.Target)
		}
		seen[m.Target] = true
	}
	return nil
}

func (t *translation) anonymous() error {
	for _, dest := range slices.Sorted(maps.Keys(t.c.Volumes)) {
		if err := checkTarget(dest); err != nil {
			return invalid("invalid volume specification: '%s': %w", dest, err)
		}
		t.spec.Volumes = append(t.spec.Volumes, path.Clean(dest))
	}
	return nil
}

// checkTarget wants an absolute path that is not the root.
func checkTarget(p string) error {
	if p == "" {
		return invalid("field Target must not be empty")
	}
	if path.Clean(p) == "/" {
		return invalid("invalid specification: destination can't be '/'")
	}
	if !path.IsAbs(p) {
		return invalid("invalid mount path: '%s' mount path must be absolute", p)
	}
	return nil
}

// mountMode is the third part of -v, one word of each kind at most.
type mountMode struct {
	readOnly    bool
	noCopy      bool
	propagation string
}

// parseMode reads "ro,z,rslave,nocopy". z and Z label files for SELinux, which brig does not use; the consistency words mean nothing on this kind of host.
func parseMode(mode string) (m mountMode, ok bool) {
	if mode == "" {
		return m, true
	}
	seen := map[string]bool{}
	for word := range strings.SplitSeq(mode, ",") {
		var kind string
		switch word {
		case "rw", "ro":
			kind, m.readOnly = "rw", word == "ro"
		case "z", "Z":
			kind = "label"
		case "nocopy":
			kind, m.noCopy = "copy", true
		case "consistent", "cached", "delegated":
			kind = "consistency"
		default:
			if !slices.Contains(mount.Propagations, mount.Propagation(word)) {
				return m, false
			}
			kind, m.propagation = "propagation", word
		}
		if seen[kind] {
			return m, false
		}
		seen[kind] = true
	}
	return m, true
}

// parseBind reads one -v: DEST, SRC:DEST or SRC:DEST:MODE. A source with a leading slash is a host path, any other names a volume.
func parseBind(raw string) (brig.Mount, error) {
	bad := func(why error) error {
		if why == nil {
			return invalid("invalid volume specification: '%s'", raw)
		}
		return invalid("invalid volume specification: '%s': %w", raw, why)
	}
	f := strings.Split(raw, ":")
	if len(f) > 3 || f[0] == "" {
		return brig.Mount{}, bad(nil)
	}
	m := brig.Mount{Type: brig.MountVolume, CreateSrc: true}
	switch len(f) {
	case 1:
		m.Target = f[0]
	case 2:
		if _, isMode := parseMode(f[1]); isMode {
			return brig.Mount{}, bad(nil)
		}
		m.Source, m.Target = f[0], f[1]
	case 3:
		m.Source, m.Target, m.Mode = f[0], f[1], f[2]
	}
	mode, ok := parseMode(m.Mode)
	if !ok {
		return brig.Mount{}, invalid("invalid mode: %s", m.Mode)
	}
	if path.IsAbs(m.Source) {
		m.Type, m.Source = brig.MountBind, path.Clean(m.Source)
	}
	if err := checkTarget(m.Target); err != nil {
		return brig.Mount{}, bad(invalid("invalid mount config for type %q: %w", m.Type, err))
	}
	if m.Type == brig.MountVolume {
		if mode.propagation != "" {
			return brig.Mount{}, bad(invalid("invalid mount config for type %q: field BindOptions must not be specified", m.Type))
		}
		if err := checkVolumeName(m.Source); err != nil {
			return brig.Mount{}, err
		}
	} else if mode.noCopy {
		return brig.Mount{}, bad(invalid("invalid mount config for type %q: field VolumeOptions must not be specified", m.Type))
	}
	m.Target, m.ReadOnly, m.NoCopy, m.Propagation = path.Clean(m.Target), mode.readOnly, mode.noCopy, mode.propagation
	m.VolumeOpts.Name = volumeName(m)
	return m, nil
}

// volumeName is the name in VolumeSpec: that of a volume, else "".
func volumeName(m brig.Mount) string {
	if m.Type == brig.MountVolume {
		return m.Source
	}
	return ""
}

func checkVolumeName(name string) error {
	if name == "" {
		return nil
	}
	if len(name) == 1 {
		return invalid("volume name is too short, names should be at least two alphanumeric characters")
	}
	if err := brig.CheckName("volume", name); err != nil {
		return invalid("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name, name)
	}
	return nil
}

// checkVolumesFrom reads CONTAINER[:MODE].
func checkVolumesFrom(spec string) error {
	name, mode, _ := strings.Cut(spec, ":")
	if name == "" {
		return invalid("volumes-from specification cannot be an empty string")
	}
	if m, ok := parseMode(mode); !ok || m.propagation != "" || m.noCopy {
		return invalid("invalid mode: %s", mode)
	}
	return nil
}

// tmpfsMount is one --tmpfs. Its options go to mount(8) as they are.
func tmpfsMount(target, options string) (brig.Mount, error) {
	if err := checkTarget(target); err != nil {
		return brig.Mount{}, err
	}
	m := brig.Mount{Type: brig.MountTmpfs, Target: path.Clean(target), TmpfsOpts: options}
	for word := range strings.SplitSeq(options, ",") {
		if !tmpfsOption(word) {
			return brig.Mount{}, invalid("invalid tmpfs option %q", word)
		}
		m.ReadOnly = m.ReadOnly || word == "ro"
		if size, ok := strings.CutPrefix(word, "size="); ok && !strings.HasSuffix(size, "%") {
			n, err := units.RAMInBytes(size)
			if err != nil || n < 0 {
				return brig.Mount{}, invalid("invalid tmpfs option %q", word)
			}
			m.TmpfsSize = n
		}
	}
	return m, nil
}

// tmpfsFlags and tmpfsKeys are what mount(8) and tmpfs(5) know and dockerd lets through.
var (
	tmpfsFlags = []string{"", "rw", "ro", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "mand", "nomand", "atime", "noatime",
		"diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable", "tmpcopyup", "defaults"}
	tmpfsKeys = []string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"}
)

func tmpfsOption(word string) bool {
	key, _, hasValue := strings.Cut(word, "=")
	if hasValue {
		return slices.Contains(tmpfsKeys, key)
	}
	return slices.Contains(tmpfsFlags, word)
}

// oldMount makes a --mount of a client before 1.48 mean what it meant there.
func oldMount(m *mount.Mount, minor int) error {
	if minor < 40 && m.BindOptions != nil {
		m.BindOptions.NonRecursive = false
	}
	if minor < 42 {
		if m.BindOptions != nil {
			m.BindOptions.CreateMountpoint = false
		}
		if m.Type != mount.TypeVolume {
			m.VolumeOptions = nil
		}
		if m.Type != mount.TypeTmpfs {
			m.TmpfsOptions = nil
		}
	}
	if minor < 44 && m.BindOptions != nil && m.BindOptions.ReadOnlyForceRecursive {
		return invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
	}
	if minor < 45 && m.VolumeOptions != nil && m.VolumeOptions.Subpath != "" {
		return invalid("VolumeOptions.Subpath needs API v1.45 or newer")
	}
	if minor < 48 && m.Type == mount.TypeImage {
		return invalid("Mount type \"Image\" needs API v1.48 or newer")
	}
	return nil
}

// mountSpec is one --mount.
func mountSpec(m *mount.Mount) (brig.Mount, error) {
	out, err := typedMount(m)
	if err != nil {
		if errs.Is(err, errs.NotImplemented) {
			return out, err
		}
		return out, errs.Wrap(err, "invalid mount config for type %q", string(m.Type))
	}
	return out, nil
}

func typedMount(m *mount.Mount) (brig.Mount, error) {
	out := brig.Mount{Type: brig.MountType(m.Type), Source: m.Source, Target: path.Clean(m.Target), ReadOnly: m.ReadOnly}
	if err := onlyOwnOptions(m); err != nil {
		return out, err
	}
	if err := checkTarget(m.Target); err != nil {
		return out, err
	}
	switch m.Type {
	case mount.TypeBind:
		return bindMount(out, m.BindOptions)
	case mount.TypeVolume:
		return volumeMount(out, m.VolumeOptions)
	case mount.TypeTmpfs:
		return typedTmpfs(out, m.TmpfsOptions)
	case mount.TypeImage:
		return out, notYet("mounts of type image are not supported by brig")
	}
	return out, invalid("mount type unknown")
}

func onlyOwnOptions(m *mount.Mount) error {
	for _, o := range []struct {
		name  string
		given bool
		of    mount.Type
	}{
		{"BindOptions", m.BindOptions != nil, mount.TypeBind}, {"VolumeOptions", m.VolumeOptions != nil, mount.TypeVolume},
		{"ImageOptions", m.ImageOptions != nil, mount.TypeImage}, {"TmpfsOptions", m.TmpfsOptions != nil, mount.TypeTmpfs},
		{"ClusterOptions", m.ClusterOptions != nil, mount.TypeCluster},
	} {
		if o.given && m.Type != o.of {
			return invalid("field %s must not be specified", o.name)
		}
	}
	return nil
}

// bindMount: ReadOnlyNonRecursive needs nothing, since a read-only bind of brig never reaches into submounts.
func bindMount(out brig.Mount, o *mount.BindOptions) (brig.Mount, error) {
	if out.Source == "" {
		return out, invalid("field Source must not be empty")
	}
	if !path.IsAbs(out.Source) {
		return out, invalid("invalid mount path: '%s' mount path must be absolute", out.Source)
	}
	out.Source = path.Clean(out.Source)
	if o == nil {
		return out, nil
	}
	if o.Propagation != "" && !slices.Contains(mount.Propagations, o.Propagation) {
		return out, invalid("invalid propagation mode: %s", o.Propagation)
	}
	if o.ReadOnlyForceRecursive {
		return out, notYet("recursive read-only bind mounts (bind-recursive=readonly) are not supported by brig")
	}
	out.Propagation, out.NonRecur, out.CreateSrc = string(o.Propagation), o.NonRecursive, o.CreateMountpoint
	return out, nil
}

func volumeMount(out brig.Mount, o *mount.VolumeOptions) (brig.Mount, error) {
	if err := checkVolumeName(out.Source); err != nil {
		return out, err
	}
	out.VolumeOpts.Name = out.Source
	if o == nil {
		return out, nil
	}
	if o.Subpath != "" && out.Source == "" {
		return out, invalid("must not set Subpath when using anonymous volumes")
	}
	if o.Subpath != "" && !filepath.IsLocal(o.Subpath) {
		return out, invalid("subpath must be a relative path within the volume")
	}
	out.NoCopy, out.Subpath, out.VolumeOpts.Labels = o.NoCopy, o.Subpath, o.Labels
	if d := o.DriverConfig; d != nil {
		if d.Name != "" && d.Name != "local" {
			return out, errs.New(errs.NotFound, "error looking up volume plugin %s: plugin %q not found", d.Name, d.Name)
		}
		out.VolumeOpts.Driver, out.VolumeOpts.Options = d.Name, d.Options
	}
	return out, nil
}

func typedTmpfs(out brig.Mount, o *mount.TmpfsOptions) (brig.Mount, error) {
	if out.Source != "" {
		return out, invalid("field Source must not be specified")
	}
	if o == nil {
		return out, nil
	}
	if o.SizeBytes < 0 {
		return out, invalid("invalid tmpfs size: %d", o.SizeBytes)
	}
	var words []string
	for _, option := range o.Options {
		switch {
		case len(option) < 1 || len(option) > 2:
			return out, invalid("invalid option array length")
		case option[0] != "exec" && option[0] != "noexec":
			return out, invalid("invalid option: %s", option[0])
		}
		words = append(words, option[0])
	}
	out.TmpfsSize, out.TmpfsMode, out.TmpfsOpts = o.SizeBytes, uint32(o.Mode), strings.Join(words, ",")
	return out, nil
}
