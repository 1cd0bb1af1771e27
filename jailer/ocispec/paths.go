package ocispec

import "github.com/opencontainers/runtime-spec/specs-go"

// MaskedPaths and ReadonlyPaths are dockerd's: what in /proc and /sys tells of, or changes, the whole host.
var (
	MaskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func paths(in *Input, s *specs.Spec) ([]string, error) {
	spec := &in.Jail.Spec
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = spec.MaskedPaths, spec.ReadonlyPaths
	if spec.Privileged {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		return nil, nil
	}
	if spec.MaskedPaths == nil {
		s.Linux.MaskedPaths = MaskedPaths
	}
	if spec.ReadonlyPaths == nil {
		s.Linux.ReadonlyPaths = ReadonlyPaths
	}
	return nil, nil
}
