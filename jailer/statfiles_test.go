package jailer

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// TestStatFiles reads files as kernels write them.
func TestStatFiles(t *testing.T) {
	system, online := hostCPU("cpu  10 20 30 40 50 0 7 1000 9 9\ncpu0 5 10 15 20 25 0 3 500 4 4\ncpu1 5 10 15 20 25 0 4 500 5 5\nintr 8 0\nctxt 5\n")
	bytes, requests := blockV2("254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=5 dios=6\n8:16 rbytes=1 wbytes=0 rios=1 wios=0\n7:0\n\n")
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"system time without what was stolen", system, uint64(157 * tick)},
		{"processors", online, uint32(2)},
		{"no /proc/stat", func() any { s, n := hostCPU(""); return s + uint64(n) }(), uint64(0)},
		{"by processor", perCPU("12 3456789012 \n"), []uint64{12, 3456789012}},
		{"no file by processor", perCPU(""), []uint64(nil)},
		{"max", number("max\n"), ^uint64(0)},
		{"nothing", number(""), uint64(0)},
		{"cpu.stat", flatKeyed("nr_periods 5\nnr_throttled 2\nbad\nthrottled_time 99\n"), map[string]uint64{"nr_periods": 5, "nr_throttled": 2, "throttled_time": 99}},
		{"block, v1", blockV1("254:0 Read 4096\n254:0 Write 0\n254:0 Total 4096\nTotal 4096\n"),
			[]brig.BlockCount{{Major: 254, Op: "Read", Value: 4096}, {Major: 254, Op: "Write"}, {Major: 254, Op: "Total", Value: 4096}}},
		{"block, v1, nothing", blockV1("Total 0\n"), []brig.BlockCount{}},
		{"bytes, v2", bytes, []brig.BlockCount{{Major: 254, Op: "read", Value: 4096}, {Major: 254, Op: "write", Value: 8192}, {Major: 8, Minor: 16, Op: "read", Value: 1}, {Major: 8, Minor: 16, Op: "write"}}},
		{"requests, v2", requests, []brig.BlockCount{{Major: 254, Op: "read", Value: 1}, {Major: 254, Op: "write", Value: 2}, {Major: 8, Minor: 16, Op: "read", Value: 1}, {Major: 8, Minor: 16, Op: "write"}}},
		{"links", links("Inter-|   Receive |  Transmit\n face |bytes packets errs\n    lo:  9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n tunl0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n" +
			"  eth0:12345678 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n"),
			map[string]brig.LinkStats{"eth0": {RxBytes: 12345678, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8}}},
		{"lo alone", links("    lo: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"), map[string]brig.LinkStats(nil)},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, c.got, c.want)
		}
	}
}

func TestMemoryDetails(t *testing.T) {
	v1 := memoryDetails("cache 7\nrss 8\nshmem 9\nhierarchical_memory_limit 100\nhierarchical_memsw_limit 200\ntotal_cache 10\ntotal_inactive_file 3\ntotal_shmem 5\n", false)
	if v1["cache"] != 7 || v1["total_cache"] != 10 || v1["total_inactive_file"] != 3 || v1["hierarchical_memsw_limit"] != 200 || len(v1) != 32 {
		t.Errorf("v1: %d keys, %v", len(v1), v1)
	}
	if _, ok := v1["total_shmem"]; ok {
		t.Error("v1 has a line that Docker doesn't show")
	}
	v2 := memoryDetails("anon 4096\nfile 0\nworkingset_refault_anon 1\nworkingset_refault_file 2\nzswap 9\n", true)
	if v2["anon"] != 4096 || v2["workingset_refault"] != 3 || len(v2) != len(detailsV2) || slices.Contains(slices.Collect(maps.Keys(v2)), "zswap") {
		t.Errorf("v2: %v", v2)
	}
}
