package jailer

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"golang.org/x/sys/unix"
)

// Stats looks at a jail. See runtime.Gauge. It reads some twenty small files under /sys and /proc, and starts no process.
func (j *Jailer) Stats(ctx context.Context, h *brig.Handle) (brig.Sample, error) {
	if err := ctx.Err(); err != nil {
		return brig.Sample{}, err
	}
	group := j.cgroup(h)
	if !j.groups.there(group) {
		return brig.Sample{}, errs.New(errs.NotFound, "jail %s has no cgroup any more", h.JailID)
	}
	s := brig.Sample{Read: time.Now().UTC()}
	if j.groups.v2 {
		j.groups.sampleV2(group, &s)
	} else {
		j.groups.sampleV1(group, &s)
	}
	s.CPU.System, s.CPU.Online = hostCPU(read("/proc", "stat"))
	if total := totalMemory(); s.Memory.Limit > total && total > 0 {
		s.Memory.Limit = total
	}
	s.Networks = linksOf(h.InitPID)
	return s, nil
}

// there reports whether cgroup exists in the hierarchies that statistics come from, or in any if there is none of those.
func (g *cgroups) there(cgroup string) bool {
	for _, dir := range g.all(cgroup) {
		if _, err := os.Stat(dir); err == nil {
			return true
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return false
}

// read returns a small file's text; "" for one that is not there, whose values then are 0.
func read(dir, name string) string {
	if dir == "" {
		return ""
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return string(b)
}

// sampleV1 reads the files of cgroup-v1/*.rst.
func (g *cgroups) sampleV1(cgroup string, s *brig.Sample) {
	acct, cpu := g.dir("cpuacct", cgroup), flatKeyed(read(g.dir("cpu", cgroup), "cpu.stat"))
	times := flatKeyed(read(acct, "cpuacct.stat"))
	s.CPU = brig.CPUStats{
		Total: number(read(acct, "cpuacct.usage")), Each: perCPU(read(acct, "cpuacct.usage_percpu")),
		Kernel: times["system"] * tick, User: times["user"] * tick,
		Periods: cpu["nr_periods"], ThrottledPeriods: cpu["nr_throttled"], ThrottledTime: cpu["throttled_time"],
	}
	if m := g.dir("memory", cgroup); m != "" {
		s.Memory = brig.MemoryStats{
			Usage: number(read(m, "memory.usage_in_bytes")), MaxUsage: number(read(m, "memory.max_usage_in_bytes")),
			Limit: number(read(m, "memory.limit_in_bytes")), Failures: number(read(m, "memory.failcnt")), Details: memoryDetails(read(m, "memory.stat"), false),
		}
	}
	s.Pids = g.pidCounts(cgroup)
	b := g.dir("blkio", cgroup)
	for _, policy := range []string{"throttle", "bfq"} { // each counts the devices that it is in charge of
		s.Block.Bytes = blockV1(read(b, "blkio."+policy+".io_service_bytes_recursive"))
		s.Block.Requests = blockV1(read(b, "blkio."+policy+".io_serviced_recursive"))
		if len(s.Block.Bytes) > 0 {
			break
		}
	}
}

// sampleV2 reads the files of cgroup-v2.rst.
func (g *cgroups) sampleV2(cgroup string, s *brig.Sample) {
	dir := g.dir("", cgroup)
	cpu := flatKeyed(read(dir, "cpu.stat"))
	s.CPU = brig.CPUStats{
		Total: cpu["usage_usec"] * 1000, Kernel: cpu["system_usec"] * 1000, User: cpu["user_usec"] * 1000,
		Periods: cpu["nr_periods"], ThrottledPeriods: cpu["nr_throttled"], ThrottledTime: cpu["throttled_usec"] * 1000,
	}
	if g.has("memory") {
		s.Memory = brig.MemoryStats{
			Usage: number(read(dir, "memory.current")), Limit: number(read(dir, "memory.max")),
			Failures: flatKeyed(read(dir, "memory.events"))["oom"], Details: memoryDetails(read(dir, "memory.stat"), true),
		}
	}
	s.Pids = g.pidCounts(cgroup)
	s.Block.V2 = true
	s.Block.Bytes, s.Block.Requests = blockV2(read(dir, "io.stat"))
}

// pidCounts are in files of the same names in v1 and v2.
func (g *cgroups) pidCounts(cgroup string) brig.PidsStats {
	dir := g.dir("pids", cgroup)
	p := brig.PidsStats{Current: number(read(dir, "pids.current")), Limit: number(read(dir, "pids.max"))}
	if p.Limit == math.MaxUint64 {
		p.Limit = 0
	}
	return p
}

// linksOf counts in the network namespace of a process; nil if that is the host's, or the process has gone.
func linksOf(pid int) map[string]brig.LinkStats {
	if pid <= 0 {
		return nil
	}
	dir := "/proc/" + strconv.Itoa(pid)
	theirs, err := os.Readlink(dir + "/ns/net")
	ours, oerr := os.Readlink("/proc/self/ns/net")
	if err != nil || oerr != nil || theirs == ours {
		return nil
	}
	return links(read(dir, "net/dev"))
}

// totalMemory is the host's RAM in bytes; 0 if that can't be found out.
func totalMemory() uint64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	return uint64(si.Totalram) * uint64(si.Unit)
}
