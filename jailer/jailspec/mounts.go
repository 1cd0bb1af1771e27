package jailspec

import (
	"path"
	"slices"
	"strconv"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/nmount"
	"github.com/brigd/brig/jailer/ocispec"
)

// Roots is where, beside the run directories, each root is mounted again by nullfs(5). There is no namespace of mounts: a jail's are made there, so that
// who looks at the root itself, for docker diff, cp, commit and export, sees none of them, as on Linux. They are not in the run directories, which
// somebody may delete.
const Roots = ".roots"

// StageOf begins the paths where subpaths that the jail with that run directory mounts are mounted first, beside its root.
func StageOf(dir string) string {
	return path.Join(path.Dir(dir), Roots, "."+path.Base(dir)+".")
}

// RootAgain is where the root of the jail with that run directory is mounted again.
func RootAgain(dir string) string { return path.Join(path.Dir(dir), Roots, path.Base(dir)) }

// OwnFiles, in the run directory, has the engine's own files, and OwnFilesAt shows them in the jail, where files can't be mounted.
const (
	OwnFiles   = "own"
	OwnFilesAt = "/.brig"
)

// ownFiles are those that a container has from the engine.
var ownFiles = []string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}

// SafeFileMounts reports whether a kernel can mount on a file. Until some time after 13.2 vn_path_to_global_path_hardlink (vfs_cache.c) begins
// with a length that nobody has set: by what happens to lie on the stack it works, or frees what was never allocated, and the kernel panics.
// The sources of 15 set it.
func SafeFileMounts(release int) bool { return release >= 1500000 }

// rootOf is the jail's path on the host.
func rootOf(in *Input) string { return RootAgain(in.Jail.Dir) }

// mounts lists all that is mounted in the jail, from the host. Docker's masked and read-only paths have no counterpart: linprocfs(5) and
// linsysfs(5) show nothing of the host that a jail may not see, and nothing in them can be written.
func mounts(in *Input, b *Bundle) ([]string, error) {
	j := in.Jail
	b.Root, b.Path = j.Root, rootOf(in)
	again := Mount{Type: "nullfs", From: j.Root, Target: b.Path, Outside: true}
	if j.Spec.ReadOnly {
		again.Options = [][2]string{{"ro", ""}}
	}
	b.Mounts = append(b.Mounts, again)
	own := map[string]bool{}
	for _, m := range j.Mounts {
		own[path.Clean(m.Target)] = true
	}
	for _, m := range systemMounts(in) {
		if !own[m.Target] {
			b.Mounts = append(b.Mounts, m)
		}
	}
	for _, m := range j.Mounts {
		if m.Type == brig.MountBind && in.Host.IsFile != nil && !in.Host.FileMounts && in.Host.IsFile(m.Source) {
			if err := linked(in, b, m); err != nil {
				return nil, err
			}
			continue
		}
		out, err := userMount(in, m)
		if err != nil {
			return nil, err
		}
		if m.Sub != "" {
			out.Sub, out.Stage = m.Sub, StageOf(in.Jail.Dir)+strconv.Itoa(len(b.Mounts))
		}
		b.Mounts = append(b.Mounts, out)
	}
	return nil, nil
}

// linked shows a file by a link, if it is one of ownFiles.
func linked(in *Input, b *Bundle, m brig.JailMount) error {
	target := path.Clean(m.Target)
	if !slices.Contains(ownFiles, target) {
		return errs.New(errs.NotImplemented, "mount %s on %s: this kernel may panic when something is mounted on a file: mount the directory that it is in", m.Source, m.Target)
	}
	if len(b.Links) == 0 {
		own := Mount{Type: "nullfs", From: path.Join(in.Jail.Dir, OwnFiles), Target: OwnFilesAt, Options: nosuid("noexec")}
		if slices.Contains(m.Options, "ro") {
			own.Options = append(own.Options, [2]string{"ro", ""})
		}
		b.Mounts = append(b.Mounts, own)
	}
	b.Links = append(b.Links, Link{m.Source, target})
	return nil
}

func systemMounts(in *Input) []Mount {
	dev := Mount{Type: "devfs", Target: "/dev", Options: [][2]string{{"ruleset", strconv.Itoa(in.Host.Ruleset)}}}
	fd := Mount{Type: "fdescfs", Target: "/dev/fd"}
	if !in.Linux {
		return []Mount{dev, fd}
	}
	fd.Options = [][2]string{{"linrdlnk", ""}} // readlink(2) of what is in it gives the file, as Linux's /proc/self/fd does
	out := []Mount{dev, fd}
	if m, is := shm(in); is {
		out = append(out, m)
	}
	return append(out, Mount{Type: "linprocfs", Target: "/proc", Options: nosuid("noexec")}, Mount{Type: "linsysfs", Target: "/sys", Options: nosuid("noexec")})
}

func nosuid(more ...string) (out [][2]string) {
	for _, o := range append([]string{"nosuid"}, more...) {
		out = append(out, [2]string{o, ""})
	}
	return out
}

// shm is /dev/shm, a directory that the module linux_common makes. FreeBSD's own programs need none: shm_open(2) is a system call there.
func shm(in *Input) (Mount, bool) {
	switch spec := &in.Jail.Spec; {
	case spec.IpcMode == "none":
		return Mount{}, false
	case spec.IpcMode == "host":
		return Mount{Type: "nullfs", From: "/dev/shm", Target: "/dev/shm", Options: nosuid("noexec")}, true
	case in.Shm != "":
		return Mount{Type: "nullfs", From: in.Shm, Target: "/dev/shm", Options: nosuid("noexec")}, true
	default:
		size := spec.ShmSize
		if size == 0 {
			size = ocispec.DefaultShm
		}
		return Mount{Type: "tmpfs", From: "tmpfs", Target: "/dev/shm", Options: append(nosuid("noexec"), [2]string{"mode", "1777"}, [2]string{"size", strconv.FormatInt(size, 10)})}, true
	}
}

// userMount is a bind mount, by nullfs(5), or a tmpfs(5).
func userMount(in *Input, m brig.JailMount) (Mount, error) {
	out := Mount{Type: "nullfs", From: m.Source, Target: path.Clean(m.Target)}
	options := m.Options
	if m.Type == brig.MountTmpfs {
		out.Type, out.From = "tmpfs", "tmpfs"
	} else {
		out.Options = append(out.Options, [2]string{"nounixbypass", ""}) // the executor drops it where the kernel has none
		if in.Host.Kept != nil {
			options = slices.Concat(options, in.Host.Kept(m.Source))
		}
	}
	var err error
	if out.Options, err = nmount.Options(out.Type, out.Options, options); err != nil {
		return Mount{}, errs.Wrap(err, "mount %s", m.Target)
	}
	if out.Type == "tmpfs" && !slices.ContainsFunc(out.Options, func(x [2]string) bool { return x[0] == "mode" }) {
		out.Options = append(out.Options, [2]string{"mode", "1777"}) // as dockerd's
	}
	return out, nil
}
