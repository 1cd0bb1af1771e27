package jailer

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
)

// tick is what proc(5) and cpuacct.stat count in, USER_HZ, in nanoseconds. It is 100 Hz on every architecture that Go runs on.
const tick = 10_000_000

// detailsV1 are the lines of v1's memory.stat (cgroup-v1/memory.rst) that Docker shows; those of the hierarchy with "total_" too.
var detailsV1 = []string{
	"cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout", "pgfault", "pgmajfault",
	"inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable",
}

// detailsV2 are those of v2's (cgroup-v2.rst).
var detailsV2 = []string{
	"anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback", "anon_thp",
	"inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "slab_reclaimable", "slab_unreclaimable",
	"pgfault", "pgmajfault", "workingset_refault", "workingset_activate", "workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal",
	"pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc",
}

// number reads a file with one number; "max" is the largest, and what is none 0.
func number(text string) uint64 {
	text = strings.TrimSpace(text)
	if text == "max" {
		return math.MaxUint64
	}
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// flatKeyed reads lines of a key and a number.
func flatKeyed(text string) map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); ok && err == nil {
			out[key] = n
		}
	}
	return out
}

// memoryDetails picks Docker's lines from a memory.stat. Lines that this kernel doesn't have are 0, as Docker says.
func memoryDetails(text string, v2 bool) map[string]uint64 {
	all, out := flatKeyed(text), map[string]uint64{}
	if v2 {
		if _, ok := all["workingset_refault"]; !ok { // split since Linux 5.9
			all["workingset_refault"] = all["workingset_refault_anon"] + all["workingset_refault_file"]
			all["workingset_activate"] = all["workingset_activate_anon"] + all["workingset_activate_file"]
		}
		for _, key := range detailsV2 {
			out[key] = all[key]
		}
		return out
	}
	for _, key := range detailsV1 {
		out[key], out["total_"+key] = all[key], all["total_"+key]
	}
	out["hierarchical_memory_limit"], out["hierarchical_memsw_limit"] = all["hierarchical_memory_limit"], all["hierarchical_memsw_limit"]
	return out
}

// hostCPU reads /proc/stat (proc_stat(5)): the time that all processors have spent, in ns, and how many they are. Of the first
// line user to softirq count, as Docker has it: time stolen by a hypervisor and guests' time, which is in user, do not.
func hostCPU(text string) (system uint64, online uint32) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) < 8 || !strings.HasPrefix(f[0], "cpu"):
			return system, online
		case f[0] == "cpu":
			for _, s := range f[1:8] {
				system += number(s) * tick
			}
		default:
			online++
		}
	}
	return system, online
}

// perCPU reads cpuacct.usage_percpu.
func perCPU(text string) (out []uint64) {
	for _, s := range strings.Fields(text) {
		out = append(out, number(s))
	}
	return out
}

// blockV1 reads a file like blkio.throttle.io_service_bytes_recursive: lines of "8:0 Read 4096", and a total at the end.
func blockV1(text string) []brig.BlockCount {
	out := []brig.BlockCount{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		if major, minor, ok := deviceNumber(f[0]); ok {
			out = append(out, brig.BlockCount{Major: major, Minor: minor, Op: f[1], Value: number(f[2])})
		}
	}
	return out
}

// blockV2 reads io.stat: lines of "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …".
func blockV2(text string) (bytes, requests []brig.BlockCount) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		major, minor, ok := deviceNumber(f[0])
		if !ok {
			continue
		}
		for _, pair := range f[1:] {
			key, value, _ := strings.Cut(pair, "=")
			c := brig.BlockCount{Major: major, Minor: minor, Value: number(value)}
			switch key {
			case "rbytes", "rios":
				c.Op = "read"
			case "wbytes", "wios":
				c.Op = "write"
			default:
				continue
			}
			if strings.HasSuffix(key, "bytes") {
				bytes = append(bytes, c)
			} else {
				requests = append(requests, c)
			}
		}
	}
	return bytes, requests
}

func deviceNumber(s string) (major, minor uint64, ok bool) {
	a, b, ok := strings.Cut(s, ":")
	major, err1 := strconv.ParseUint(a, 10, 32)
	minor, err2 := strconv.ParseUint(b, 10, 32)
	return major, minor, ok && err1 == nil && err2 == nil
}

// fallbackLinks are in each new network namespace once the kernel's module for tunnels of their kind is loaded; nobody asked for them.
var fallbackLinks = []string{"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}

// links reads /proc/PID/net/dev (proc_pid_net(5)): eight counters of what came in, eight of what went out. lo is left out.
func links(text string) map[string]brig.LinkStats {
	var out map[string]brig.LinkStats
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		name = strings.TrimSpace(name)
		if !ok || len(f) < 12 || name == "lo" || slices.Contains(fallbackLinks, name) {
			continue
		}
		if out == nil {
			out = map[string]brig.LinkStats{}
		}
		out[name] = brig.LinkStats{
			RxBytes: number(f[0]), RxPackets: number(f[1]), RxErrors: number(f[2]), RxDropped: number(f[3]),
			TxBytes: number(f[8]), TxPackets: number(f[9]), TxErrors: number(f[10]), TxDropped: number(f[11]),
		}
	}
	return out
}
