package jailspec

import (
	"time"

	"github.com/brigd/brig/internal/brig"
)

// Sample makes what docker stats shows of rctl(8)'s account of a jail. Processor time is counted in whole seconds there, so pcpu, the percents of one
// processor just now, says more. total is the host's memory in bytes.
func Sample(use map[string]uint64, cpus int, total uint64) brig.Sample {
	now := time.Now().UTC()
	return brig.Sample{
		Read: now,
		CPU: brig.CPUStats{
			Total: use["cputime"] * 1e9, User: use["cputime"] * 1e9, Online: uint32(cpus), System: uint64(now.UnixNano()) * uint64(cpus),
		},
		Memory: brig.MemoryStats{Usage: use["memoryuse"], Limit: total, Details: map[string]uint64{"rss": use["memoryuse"]}},
		Pids:   brig.PidsStats{Current: use["nthr"]},
	}
}
