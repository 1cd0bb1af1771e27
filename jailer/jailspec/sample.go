package jailspec

import (
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/jailer/jailctl"
)

// Account is what the kernel tells of a jail.
type Account struct {
	Usage  map[string]uint64 // by rctl(8)
	Limits map[string]uint64 // of its own rules
	Procs  []jailctl.Proc    // in it
	Links  []jailctl.Link    // of its network stack; nil if that isn't its own
	CPUs   int               // of the host
	Memory uint64            // the host's, in bytes
}

// Sample makes what docker stats shows. rctl(8) counts processor time in whole seconds, but of all that has ever run in the jail; its processes
// know of microseconds, but nothing of those that have ended and that none in the jail has waited for. The greater of both is less than a second
// too low. What a process reads and writes is not counted in bytes.
func Sample(a *Account) brig.Sample {
	now := time.Now().UTC()
	var user, kernel uint64
	for _, p := range a.Procs {
		user, kernel = user+p.User*1e3, kernel+p.Kernel*1e3
	}
	s := brig.Sample{
		Read:   now,
		CPU:    brig.CPUStats{Total: max(user+kernel, a.Usage["cputime"]*1e9), User: user, Kernel: kernel, Online: uint32(a.CPUs), System: uint64(now.UnixNano()) * uint64(a.CPUs)},
		Memory: brig.MemoryStats{Usage: a.Usage["memoryuse"], Limit: a.Memory, Details: map[string]uint64{"rss": a.Usage["memoryuse"]}},
		Pids:   brig.PidsStats{Current: a.Usage["nthr"], Limit: a.Limits["maxproc"]},
	}
	if l := a.Limits["memoryuse"]; l > 0 && l < a.Memory {
		s.Memory.Limit = l
	}
	for _, l := range a.Links {
		if s.Networks == nil {
			s.Networks = map[string]brig.LinkStats{}
		}
		s.Networks[l.Name] = brig.LinkStats{
			RxBytes: l.RxBytes, RxPackets: l.RxPackets, RxErrors: l.RxErrors, RxDropped: l.RxDropped,
			TxBytes: l.TxBytes, TxPackets: l.TxPackets, TxErrors: l.TxErrors, TxDropped: l.TxDropped,
		}
	}
	return s
}

// Holder is the jail that a container's has its network stack from, by the name of the container's; "": it has its own, or the host's.
func Holder(name string) string {
	return name[:max(0, strings.LastIndexByte(name, '.'))]
}
