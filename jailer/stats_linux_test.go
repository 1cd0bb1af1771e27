package jailer

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// TestStatsOfALoad lets a jail use a known amount of memory and some processor time, and looks at it.
func TestStatsOfALoad(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		j := b.jail("sh", "-c", "head -c 20000000 /dev/zero > /ram/f; echo ready; while :; do :; done")
		j.Mounts = []brig.JailMount{{Type: brig.MountTmpfs, Target: "/ram"}}
		j.Spec.Limits = brig.Limits{Memory: 64 << 20, Pids: 20, NanoCPUs: 5e7}
		h := b.create(j)
		out := newBuffer()
		b.attach(h, brig.IO{Stdout: out})
		b.start(h)
		out.await("ready")
		var s brig.Sample
		for s.CPU.ThrottledPeriods == 0 { // a busy host takes a while to give it more than its limit
			var err error
			if s, err = b.Stats(b.Context(), h); err != nil {
				b.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		within := func(what string, got, low, high uint64) {
			b.Helper()
			if got < low || got > high {
				b.Errorf("%s: %d, want %d to %d", what, got, low, high)
			}
		}
		within("memory", s.Memory.Usage, 20_000_000, 64<<20)
		within("memory limit", s.Memory.Limit, 64<<20, 64<<20)
		within("processor time", s.CPU.Total, 1_000_000, 60_000_000_000)
		within("time in user and kernel mode", s.CPU.User+s.CPU.Kernel, 0, 60_000_000_000)
		within("the host's time", s.CPU.System, s.CPU.Total, ^uint64(0))
		within("processors", uint64(s.CPU.Online), 1, 4096)
		within("periods", s.CPU.Periods, 1, ^uint64(0))
		within("throttled periods", s.CPU.ThrottledPeriods, 1, s.CPU.Periods)
		within("throttled time", s.CPU.ThrottledTime, 1, ^uint64(0))
		within("processes", s.Pids.Current, 1, 20)
		within("their limit", s.Pids.Limit, 20, 20)
		if !b.groups.v2 {
			within("most memory", s.Memory.MaxUsage, s.Memory.Usage, 64<<20)
			within("cache of all", s.Memory.Details["total_cache"], 20_000_000, 64<<20)
		}
		if s.Networks != nil {
			b.Errorf("a network of lo alone has links %v", s.Networks)
		}
		if err := b.Destroy(b.Context(), h); err != nil {
			b.Error(err)
		}
		if _, err := b.Stats(b.Context(), h); !errs.Is(err, errs.NotFound) {
			b.Errorf("stats of a jail that is gone: %v", err)
		}
	})
}

// TestSampleV2 reads a cgroup v2 directory that is made of plain files, as a kernel would show them.
func TestSampleV2(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"cpu.stat":       "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 4\nnr_throttled 2\nthrottled_usec 9\n",
		"memory.current": "8192\n", "memory.max": "max\n", "memory.events": "low 0\nhigh 0\nmax 7\noom 3\noom_kill 1\n", "memory.stat": "anon 4096\ninactive_file 2048\n",
		"pids.current": "3\n", "pids.max": "max\n", "io.stat": "254:0 rbytes=512 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n",
	} {
		os.MkdirAll(filepath.Join(root, "a"), 0o755)
		if err := os.WriteFile(filepath.Join(root, "a", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := &cgroups{v2: true, roots: []hierarchy{{root, []string{"cpu", "memory", "pids", "io"}}}}
	j := &Jailer{groups: g}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, cgroupName), []byte("/a"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := j.Stats(context.Background(), &brig.Handle{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if s.CPU.Total != 1_500_000 || s.CPU.User != 1_000_000 || s.CPU.Kernel != 500_000 || s.CPU.Periods != 4 || s.CPU.ThrottledPeriods != 2 || s.CPU.ThrottledTime != 9000 || s.CPU.Each != nil {
		t.Errorf("cpu: %+v", s.CPU)
	}
	if s.Memory.Usage != 8192 || s.Memory.Limit != totalMemory() || s.Memory.Failures != 3 || s.Memory.Details["inactive_file"] != 2048 {
		t.Errorf("memory: %+v", s.Memory)
	}
	if s.Pids != (brig.PidsStats{Current: 3}) || !s.Block.V2 || len(s.Block.Bytes) != 2 || s.Block.Bytes[0].Value != 512 {
		t.Errorf("pids %+v, block %+v", s.Pids, s.Block)
	}
}
