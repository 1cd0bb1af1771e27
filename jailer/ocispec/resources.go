package ocispec

import (
	"slices"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// cpuPeriod is the CFS period that --cpus is spread over, in µs.
const cpuPeriod = 100_000

func resources(in *Input, s *specs.Spec) ([]string, error) {
	return Resources(&in.Jail.Spec.Limits, in.Host, s.Linux.Resources)
}

// Resources puts limits into r. A controller that the host lacks discards its limits with a warning.
func Resources(l *brig.Limits, h *Host, r *specs.LinuxResources) (warnings []string, err error) {
	need := func(controller, what string, wanted bool) bool {
		if wanted && !slices.Contains(h.Controllers, controller) {
			warnings = append(warnings, "Your kernel does not support "+what+" or the cgroup is not mounted. Limitation discarded.")
			return false
		}
		return wanted
	}
	memory, warn := memoryLimits(l, h)
	if need("memory", "memory limit capabilities", memory != nil) {
		r.Memory = memory
		warnings = append(warnings, warn...)
	}
	cpu, cpuset := cpuLimits(l)
	if need("cpu", "CPU cfs quota or shares", cpu != nil) {
		r.CPU = cpu
	}
	if need("cpuset", "cpuset", cpuset) {
		if r.CPU == nil {
			r.CPU = &specs.LinuxCPU{}
		}
		r.CPU.Cpus, r.CPU.Mems = l.CpusetCPUs, l.CpusetMems
	}
	if need("pids", "PIDs limit capabilities", l.Pids > 0) {
		r.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	if l.BlkioWeight > 0 && !h.BlkioWeight {
		warnings = append(warnings, "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
	}
	if need("blkio", "Block I/O limits", l.BlkioWeight > 0 && h.BlkioWeight || len(l.BlkioThrottle) > 0) {
		if r.BlockIO, err = blockIO(l, h); err != nil {
			return nil, err
		}
	}
	return warnings, nil
}

// memoryLimits returns nil if none is asked for.
func memoryLimits(l *brig.Limits, h *Host) (*specs.LinuxMemory, []string) {
	var m specs.LinuxMemory
	var warnings []string
	any := false
	if l.Memory > 0 {
		m.Limit, any = &l.Memory, true
		swap := l.MemorySwap
		if swap == 0 {
			swap = 2 * l.Memory
		}
		switch {
		case h.Swap:
			m.Swap = &swap
		case l.MemorySwap > 0:
			warnings = append(warnings, "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		}
	}
	if l.MemoryReservation > 0 {
		m.Reservation, any = &l.MemoryReservation, true
	}
	if l.MemorySwappiness != nil && *l.MemorySwappiness >= 0 {
		if h.CgroupV2 {
			warnings = append(warnings, "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		} else {
			n := uint64(*l.MemorySwappiness)
			m.Swappiness, any = &n, true
		}
	}
	if l.OomKillDisable {
		if h.CgroupV2 {
			warnings = append(warnings, "Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		} else {
			m.DisableOOMKiller, any = &l.OomKillDisable, true
		}
	}
	if !any && len(warnings) == 0 {
		return nil, nil
	}
	return &m, warnings
}

// cpuLimits returns nil if none is asked for; cpuset says whether processors or memory nodes are.
func cpuLimits(l *brig.Limits) (c *specs.LinuxCPU, cpuset bool) {
	var cpu specs.LinuxCPU
	any := false
	if l.NanoCPUs > 0 {
		period, quota := uint64(cpuPeriod), l.NanoCPUs*cpuPeriod/1e9
		cpu.Period, cpu.Quota, any = &period, &quota, true
	}
	if l.CPUPeriod > 0 {
		period := uint64(l.CPUPeriod)
		cpu.Period, any = &period, true
	}
	if l.CPUQuota != 0 {
		cpu.Quota, any = &l.CPUQuota, true
	}
	if l.CPUShares > 0 {
		shares := uint64(l.CPUShares)
		cpu.Shares, any = &shares, true
	}
	if l.CPURealtimePeriod > 0 {
		period := uint64(l.CPURealtimePeriod)
		cpu.RealtimePeriod, any = &period, true
	}
	if l.CPURealtimeRuntime > 0 {
		cpu.RealtimeRuntime, any = &l.CPURealtimeRuntime, true
	}
	if any {
		c = &cpu
	}
	return c, l.CpusetCPUs != "" || l.CpusetMems != ""
}

func blockIO(l *brig.Limits, h *Host) (*specs.LinuxBlockIO, error) {
	var b specs.LinuxBlockIO
	if l.BlkioWeight > 0 && h.BlkioWeight {
		b.Weight = &l.BlkioWeight
	}
	for _, t := range l.BlkioThrottle {
		d, err := h.Device(t.Path)
		if err != nil {
			return nil, errs.New(errs.Invalid, "limit %s of %s: %w", t.What, t.Path, err)
		}
		td := specs.LinuxThrottleDevice{Rate: t.Rate}
		td.Major, td.Minor = d.Major, d.Minor
		switch t.What {
		case "read_bps":
			b.ThrottleReadBpsDevice = append(b.ThrottleReadBpsDevice, td)
		case "write_bps":
			b.ThrottleWriteBpsDevice = append(b.ThrottleWriteBpsDevice, td)
		case "read_iops":
			b.ThrottleReadIOPSDevice = append(b.ThrottleReadIOPSDevice, td)
		case "write_iops":
			b.ThrottleWriteIOPSDevice = append(b.ThrottleWriteIOPSDevice, td)
		default:
			return nil, errs.New(errs.Invalid, "unknown limit %q of %s", t.What, t.Path)
		}
	}
	return &b, nil
}
