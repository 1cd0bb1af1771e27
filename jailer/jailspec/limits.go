package jailspec

import (
	"fmt"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// limits makes rctl(8) rules and a cpuset(1) of what a container may use.
func limits(in *Input, b *Bundle) ([]string, error) {
	rules, warnings, err := Rules(b.Name, &in.Jail.Spec.Limits, in.Host)
	if err != nil {
		return nil, err
	}
	b.Rules, b.CPUs = rules, in.Jail.Spec.Limits.CpusetCPUs
	return warnings, nil
}

// Rules are the rctl(8) rules that hold the jail to l. Amounts are in bytes, processes, and percents of one processor.
func Rules(jail string, l *brig.Limits, h *Host) (rules, warnings []string, err error) {
	rule := func(resource, action string, amount int64) {
		rules = append(rules, fmt.Sprintf("jail:%s:%s:%s=%d", jail, resource, action, amount))
	}
	if l.Memory > 0 {
		// memoryuse counts what is resident. To deny it is to page it out for ever; what Docker means is that the process ends.
		rule("memoryuse", "sigkill", l.Memory)
	}
	if l.Pids > 0 {
		rule("maxproc", "deny", l.Pids)
	}
	if percent := cpuPercent(l); percent > 0 {
		rule("pcpu", "deny", percent)
	}
	for _, t := range l.BlkioThrottle {
		resource := map[string]string{"read_bps": "readbps", "write_bps": "writebps", "read_iops": "readiops", "write_iops": "writeiops"}[t.What]
		if resource == "" {
			return nil, nil, errs.New(errs.Invalid, "unknown limit %q of %s", t.What, t.Path)
		}
		rule(resource, "throttle", int64(min(t.Rate, 1<<62)))
		warnings = append(warnings, "FreeBSD limits the rate of all disks together: "+t.What+" of "+t.Path+" holds for all.")
	}
	if len(rules) > 0 && !h.Racct {
		return nil, []string{"Your kernel does not count what jails use (kern.racct.enable=1 in /boot/loader.conf, and a boot). Limitation discarded."}, nil
	}
	return rules, append(warnings, unenforced(l)...), nil
}

// cpuPercent turns --cpus, or a quota in a period, into percents of one processor, rounded up; 0 is no limit.
func cpuPercent(l *brig.Limits) int64 {
	switch {
	case l.NanoCPUs > 0:
		return (l.NanoCPUs + 1e7 - 1) / 1e7
	case l.CPUQuota > 0:
		period := l.CPUPeriod
		if period == 0 {
			period = 100_000
		}
		return (l.CPUQuota*100 + period - 1) / period
	}
	return 0
}

// unenforced warns of limits that FreeBSD has no counterpart of.
func unenforced(l *brig.Limits) (warnings []string) {
	for _, w := range []struct {
		asked bool
		what  string
	}{
		{l.MemorySwap > 0 && l.MemorySwap != l.Memory, "limit on the swap space in use"}, // swapuse counts what is reserved, mapped and never touched
		{l.MemoryReservation > 0, "memory reservation"},
		{l.MemorySwappiness != nil && *l.MemorySwappiness >= 0, "memory swappiness"},
		{l.OomKillDisable, "OomKillDisable"},
		{l.CPUShares > 0, "CPU shares"},
		{l.CPURealtimePeriod > 0 || l.CPURealtimeRuntime > 0, "CPU realtime scheduling"},
		{l.CpusetMems != "", "cpuset memory nodes"},
		{l.BlkioWeight > 0, "Block I/O weight"},
	} {
		if w.asked {
			warnings = append(warnings, "FreeBSD has no "+w.what+" of jails. Limitation discarded.")
		}
	}
	return warnings
}
