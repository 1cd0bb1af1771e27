package ocispec

import (
	"slices"
	"strings"

	"github.com/brigd/brig/internal/errs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultCaps are what dockerd leaves a container's root.
var DefaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
	"CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// AllCaps are Linux's capabilities by number (capabilities(7)).
var AllCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
	"CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
	"CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
}

const allCaps = "CAP_ALL"

func capabilities(in *Input, s *specs.Spec) ([]string, error) {
	want, asked, err := Caps(in.Jail.Spec.Privileged, in.Jail.Spec.CapAdd, in.Jail.Spec.CapDrop)
	if err != nil {
		return nil, err
	}
	var have, lacking []string
	for _, c := range want {
		switch {
		case slices.Contains(in.Host.Caps, c):
			have = append(have, c)
		case asked:
			lacking = append(lacking, c)
		}
	}
	s.Process.Capabilities = capSets(have, s.Process.User.UID)
	if len(lacking) > 0 {
		return []string{"The daemon itself lacks " + strings.Join(lacking, ", ") + ": the container runs without"}, nil
	}
	return nil, nil
}

// capSets gives caps to root, and to others only as the bound of what execve(2) may give them.
func capSets(caps []string, uid uint32) *specs.LinuxCapabilities {
	c := &specs.LinuxCapabilities{Bounding: caps}
	if uid == 0 {
		c.Effective, c.Permitted = caps, caps
	}
	return c
}

// Caps computes the set that add and drop, as docker run's, leave; asked is true if more than the default was asked for.
func Caps(privileged bool, add, drop []string) (caps []string, asked bool, err error) {
	if privileged {
		return AllCaps, true, nil
	}
	if add, err = normalCaps("CapAdd", add); err != nil {
		return nil, false, err
	}
	if drop, err = normalCaps("CapDrop", drop); err != nil {
		return nil, false, err
	}
	base := DefaultCaps
	switch {
	case slices.Contains(add, allCaps):
		base = AllCaps
	case slices.Contains(drop, allCaps):
		base = nil
	}
	for _, c := range base {
		if !slices.Contains(drop, c) {
			caps = append(caps, c)
		}
	}
	for _, c := range add {
		if c != allCaps && !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return caps, len(add) > 0, nil
}

func normalCaps(field string, in []string) ([]string, error) {
	var out []string
	for _, c := range in {
		c = strings.ToUpper(c)
		if !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		if c != allCaps && !slices.Contains(AllCaps, c) {
			return nil, errs.New(errs.Invalid, "invalid %s: unknown capability: %q", field, c)
		}
		out = append(out, c)
	}
	return out, nil
}
