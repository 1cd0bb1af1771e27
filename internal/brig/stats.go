package brig

import "time"

// Stats is what a container uses, at one moment. Counters count from its start on.
type Stats struct {
	ID   ID
	Name string
	// Sample is zero for a container that doesn't run.
	Sample
	// Before is the sample before this one of the same stream; zero without one.
	Before Sample
}

// Sample is one look at a jail. What the host doesn't count is zero.
type Sample struct {
	Read     time.Time
	CPU      CPUStats
	Memory   MemoryStats
	Pids     PidsStats
	Block    BlockStats
	Networks map[string]LinkStats // by the interface's name inside, lo left out; nil on the host's own network
}

// CPUStats is in nanoseconds of processor time, but for the counts.
type CPUStats struct {
	Total, Kernel, User uint64
	Each                []uint64 // by processor; nil where the host doesn't count so
	System              uint64   // of the whole host, idle time included
	Online              uint32   // processors

	Periods, ThrottledPeriods uint64 // of enforcement, and those in which it held the container back
	ThrottledTime             uint64
}

// MemoryStats is in bytes.
type MemoryStats struct {
	Usage, MaxUsage uint64            // MaxUsage is 0 in cgroup v2
	Limit           uint64            // the host's memory if there is none
	Failures        uint64            // v1: how often the limit was hit; v2: how often memory ran out
	Details         map[string]uint64 // of memory.stat, those that Docker shows
}

// PidsStats counts processes and threads; Limit 0 is none.
type PidsStats struct{ Current, Limit uint64 }

// BlockStats counts what went to and came from block devices. V2 says that it is as cgroup v2 counts.
type BlockStats struct {
	V2              bool
	Bytes, Requests []BlockCount
}

// BlockCount is one counter of one device. Op is as the kernel's file has it, in v1 "Read", "Write", "Sync" …, in v2 "read" and "write".
type BlockCount struct {
	Major, Minor uint64
	Op           string
	Value        uint64
}

// LinkStats counts at a network interface.
type LinkStats struct {
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// StatsOptions choose how often to look. Without Stream there is one answer, with a sample of a second before it unless OneShot.
type StatsOptions struct{ Stream, OneShot bool }
