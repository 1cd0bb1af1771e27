package ocispec

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultShm is Docker's size of /dev/shm, in bytes.
const DefaultShm = 64 << 20

func mounts(in *Input, s *specs.Spec) ([]string, error) {
	j := in.Jail
	own := map[string]bool{}
	for _, m := range j.Mounts {
		own[path.Clean(m.Target)] = true
	}
	for _, m := range append(systemMounts(&j.Spec), sharedMounts(in)...) {
		if own[m.Destination] {
			continue // the user's takes its place
		}
		if j.Spec.ReadOnly && !writableIfReadOnly(m.Destination) && !slices.Contains(m.Options, "ro") {
			m.Options = append(m.Options, "ro")
		}
		s.Mounts = append(s.Mounts, m)
	}
	for _, m := range j.Mounts {
		out := userMount(m)
		if m.Type != brig.MountTmpfs {
			for _, o := range in.Host.Kept(m.Source) {
				if !slices.Contains(out.Options, o) {
					out.Options = append(out.Options, o)
				}
			}
		}
		s.Mounts = append(s.Mounts, out)
		if err := mayPropagate(in.Host, m); err != nil {
			return nil, err
		}
		propagate(s.Linux, m.Options)
	}
	return nil, nil
}

// systemMounts are dockerd's, but /dev/shm and /dev/mqueue.
func systemMounts(spec *brig.Spec) []specs.Mount {
	sys := []string{"nosuid", "noexec", "nodev", "ro"}
	if spec.Privileged {
		sys = sys[:3]
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: slices.Clone(sys)},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: slices.Clone(sys)},
	}
}

// sharedMounts are those that go with the IPC namespace.
func sharedMounts(in *Input) []specs.Mount {
	spec := &in.Jail.Spec
	opts := []string{"nosuid", "noexec", "nodev"}
	mqueue := specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: opts}
	shm := specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm"}
	switch {
	case spec.IpcMode == "none":
		return []specs.Mount{mqueue}
	case spec.IpcMode == "host", in.Shm != "":
		shm.Type, shm.Source, shm.Options = "bind", cmp.Or(in.Shm, "/dev/shm"), append(slices.Clone(opts), "rbind")
	default:
		size := spec.ShmSize
		if size == 0 {
			size = DefaultShm
		}
		shm.Options = append(slices.Clone(opts), "mode=1777", "size="+strconv.FormatInt(size, 10))
	}
	return []specs.Mount{mqueue, shm}
}

func writableIfReadOnly(target string) bool {
	return slices.Contains([]string{"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"}, target)
}

func userMount(m brig.JailMount) specs.Mount {
	out := specs.Mount{Destination: path.Clean(m.Target), Type: string(m.Type), Source: m.Source, Options: slices.Clone(m.Options)}
	switch m.Type {
	case brig.MountTmpfs:
		out.Source = "tmpfs"
	default:
		out.Type = "bind"
		if !slices.Contains(out.Options, "bind") && !slices.Contains(out.Options, "rbind") {
			out.Options = append([]string{"rbind"}, out.Options...)
		}
		if !slices.ContainsFunc(out.Options, isPropagation) {
			out.Options = append(out.Options, "rprivate")
		}
	}
	return out
}

func isPropagation(o string) bool {
	return slices.Contains([]string{"private", "rprivate", "slave", "rslave", "shared", "rshared"}, o)
}

// mayPropagate refuses a bind mount whose source can't propagate as asked, in dockerd's words.
func mayPropagate(h *Host, m brig.JailMount) error {
	for _, o := range m.Options {
		kind := strings.TrimPrefix(o, "r")
		if m.Type == brig.MountTmpfs || kind != "shared" && kind != "slave" {
			continue
		}
		at, optional, err := h.MountOf(m.Source)
		if err != nil {
			return errs.Wrap(err, "find the mount of %s", m.Source)
		}
		shared := strings.Contains(optional, "shared:")
		if kind == "shared" && !shared {
			return errs.New(errs.Invalid, "path %s is mounted on %s but it is not a shared mount", m.Source, at)
		}
		if kind == "slave" && !shared && !strings.Contains(optional, "master:") {
			return errs.New(errs.Invalid, "path %s is mounted on %s but it is not a shared or slave mount", m.Source, at)
		}
	}
	return nil
}

// propagate opens the root's propagation as far as a mount needs it.
func propagate(l *specs.Linux, options []string) {
	for _, o := range options {
		switch o {
		case "shared", "rshared":
			l.RootfsPropagation = "shared"
		case "slave", "rslave":
			if l.RootfsPropagation == "" {
				l.RootfsPropagation = "rslave"
			}
		}
	}
}
