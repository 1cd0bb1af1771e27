package dockerapi

import (
	"context"
	"encoding/json"

	"github.com/moby/moby/api/types/container"

	"github.com/brigd/brig/internal/brig"
)

// statsDoc is moby's document, in which dockerd shows two parts that only Windows fills.
type statsDoc = container.StatsResponse

// containerStats answers with one document, or one every second. The headers go out with the first.
func (s *Server) containerStats(ctx context.Context, r *request) (response, error) {
	o := brig.StatsOptions{Stream: r.flagOr("stream", true)}
	if r.version >= 41 {
		o.OneShot = r.flag("one-shot")
	}
	if _, err := s.Containers.Get(ctx, r.ref()); err != nil {
		return nil, err
	}
	return func(a *answer) error {
		out := json.NewEncoder(&lateWriter{a: a, contentType: "application/json"})
		err := s.Meter.Stats(ctx, r.ref(), o, func(st brig.Stats) error {
			if err := out.Encode(newStats(st)); err != nil {
				return err
			}
			a.Flush()
			return nil
		})
		if ctx.Err() != nil {
			return nil // the client has what it wanted
		}
		return err
	}, nil
}

// newStats is pure.
func newStats(s brig.Stats) statsDoc {
	doc := statsDoc{
		ID: string(s.ID), Name: "/" + s.Name, Read: s.Read, PreRead: s.Before.Read, CPUStats: cpuStats(s.CPU), PreCPUStats: cpuStats(s.Before.CPU),
		MemoryStats: container.MemoryStats{
			Usage: s.Memory.Usage, MaxUsage: s.Memory.MaxUsage, Limit: s.Memory.Limit, Failcnt: s.Memory.Failures, Stats: s.Memory.Details,
		},
		PidsStats: container.PidsStats{Current: s.Pids.Current, Limit: s.Pids.Limit},
	}
	if !s.Read.IsZero() {
		b := &doc.BlkioStats
		b.IoServiceBytesRecursive, b.IoServicedRecursive = blockCounts(s.Block.Bytes), blockCounts(s.Block.Requests)
		if !s.Block.V2 { // the other counters are those of a scheduler that Linux has no more; dockerd has them empty
			none := []container.BlkioStatEntry{}
			b.IoQueuedRecursive, b.IoServiceTimeRecursive, b.IoWaitTimeRecursive = none, none, none
			b.IoMergedRecursive, b.IoTimeRecursive, b.SectorsRecursive = none, none, none
		}
	}
	for name, l := range s.Networks {
		if doc.Networks == nil {
			doc.Networks = map[string]container.NetworkStats{}
		}
		doc.Networks[name] = container.NetworkStats{
			RxBytes: l.RxBytes, RxPackets: l.RxPackets, RxErrors: l.RxErrors, RxDropped: l.RxDropped,
			TxBytes: l.TxBytes, TxPackets: l.TxPackets, TxErrors: l.TxErrors, TxDropped: l.TxDropped,
		}
	}
	return doc
}

func cpuStats(c brig.CPUStats) container.CPUStats {
	return container.CPUStats{
		CPUUsage:    container.CPUUsage{TotalUsage: c.Total, PercpuUsage: c.Each, UsageInKernelmode: c.Kernel, UsageInUsermode: c.User},
		SystemUsage: c.System, OnlineCPUs: c.Online,
		ThrottlingData: container.ThrottlingData{Periods: c.Periods, ThrottledPeriods: c.ThrottledPeriods, ThrottledTime: c.ThrottledTime},
	}
}

func blockCounts(all []brig.BlockCount) []container.BlkioStatEntry {
	out := make([]container.BlkioStatEntry, 0, len(all))
	for _, c := range all {
		out = append(out, container.BlkioStatEntry{Major: c.Major, Minor: c.Minor, Op: c.Op, Value: c.Value})
	}
	return out
}
