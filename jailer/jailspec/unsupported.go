package jailspec

import (
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// namespaces refuses to share what jails can't share.
func namespaces(in *Input, _ *Bundle) ([]string, error) {
	spec := &in.Jail.Spec
	switch {
	case spec.PidMode == "host":
		return nil, errs.New(errs.NotImplemented, "--pid host: a jail never sees processes outside of it")
	case strings.HasPrefix(spec.PidMode, "container:"):
		return nil, errs.New(errs.NotImplemented, "--pid %s: a jail never sees another jail's processes", spec.PidMode)
	case strings.HasPrefix(spec.IpcMode, "container:"):
		return nil, errs.New(errs.NotImplemented, "--ipc %s: jails can't share their System V IPC with each other", spec.IpcMode)
	case len(spec.Sysctls) > 0:
		return nil, errs.New(errs.NotImplemented, "--sysctl: the names are Linux's, and a jail has none of its own")
	case len(spec.Devices) > 0 || len(spec.DeviceRules) > 0:
		return nil, errs.New(errs.NotImplemented, "--device: devices are given by brig's devfs ruleset alone")
	}
	return nil, nil
}

// unsupported warns of what protects or tunes a container on Linux, and has no counterpart here.
func unsupported(in *Input, _ *Bundle) (warnings []string, err error) {
	spec := &in.Jail.Spec
	if spec.Seccomp != "" && spec.Seccomp != "unconfined" {
		warnings = append(warnings, "FreeBSD has no seccomp: the profile is discarded.")
	}
	if spec.Syscalls != nil {
		warnings = append(warnings, "FreeBSD has no seccomp: the set of system calls is discarded.")
	}
	if spec.Privileged {
		warnings = append(warnings, "A privileged jail may neither mount nor use the host's devices.")
	}
	if spec.OomScoreAdj != 0 {
		warnings = append(warnings, "FreeBSD has no OOM score: OomScoreAdj discarded.")
	}
	if spec.CgroupParent != "" || spec.CgroupnsMode == "host" {
		warnings = append(warnings, "FreeBSD has no cgroups: CgroupParent and CgroupnsMode discarded.")
	}
	if len(spec.MaskedPaths) > 0 || len(spec.ReadonlyPaths) > 0 {
		warnings = append(warnings, "Paths that are masked or read-only are Linux's: discarded.")
	}
	return warnings, nil
}
