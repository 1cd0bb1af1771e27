package jailer

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// BenchmarkJail is one container's whole life, and reports what a shim weighs while many live.
func BenchmarkJail(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root")
	}
	for _, name := range []string{"crun", "runc"} {
		path, err := lookPath(name)
		if err != nil {
			continue
		}
		b.Run(name, func(b *testing.B) {
			n := newBench(b, path)
			for b.Loop() {
				h := n.create(n.jail("true"))
				n.start(h)
				n.wait(h)
				if err := n.Destroy(b.Context(), h); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			var all []*brig.Handle
			for range 10 {
				h := n.create(n.jail("sleep", "1000"))
				n.start(h)
				all = append(all, h)
			}
			sum := 0
			for _, h := range all {
				kib, err := shimMemory(h.ShimPID)
				if err != nil {
					b.Fatal(err)
				}
				sum += kib
			}
			b.ReportMetric(float64(sum)/float64(len(all)), "KiB-PSS/shim")
		})
	}
}

// shimMemory returns a process's proportional set size in KiB.
func shimMemory(pid int) (int, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			return strconv.Atoi(f[1])
		}
	}
	return 0, fmt.Errorf("process %d has no Pss", pid)
}
