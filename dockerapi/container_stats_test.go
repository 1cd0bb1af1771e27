package dockerapi

import (
	"bufio"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Stats gives one frame, or frames until the client goes.
func (f *fleet) Stats(ctx context.Context, ref string, o brig.StatsOptions, each func(brig.Stats) error) error {
	c, err := f.Get(ctx, ref)
	if err != nil {
		return err
	}
	if o.Stream && o.OneShot {
		return errs.New(errs.Invalid, "cannot have stream=true and one-shot=true")
	}
	s := brig.Stats{ID: c.ID, Name: c.Name}
	for n := uint64(1); ctx.Err() == nil; n++ {
		if c.State.HasProcess() {
			s.Read, s.CPU.Total, s.Pids.Current = time.Unix(int64(n), 0).UTC(), n, 2
			s.Networks = map[string]brig.LinkStats{"eth0": {RxBytes: n}}
		}
		if err := each(s); err != nil || !o.Stream {
			return err
		}
	}
	return ctx.Err()
}

func TestStatsAnswers(t *testing.T) {
	p := newPort(t, echo)
	p.create("c1", `{"Image":"busybox"}`)
	status, out := p.call("GET", "/v1.51/containers/c1/stats?stream=false", "")
	for _, want := range []string{`"name":"/c1"`, `"read":"0001-01-01T00:00:00Z"`, `"preread":"0001-01-01T00:00:00Z"`, `"pids_stats":{}`, `"memory_stats":{}`, `"io_service_bytes_recursive":null`, `"cpu_stats":{"cpu_usage":{"total_usage":0,`} {
		if status != 200 || !strings.Contains(out, want) {
			t.Errorf("stopped: %d %s, want %s", status, out, want)
		}
	}
	if strings.Contains(out, "networks") || strings.Count(out, "\n") != 1 {
		t.Errorf("stopped: %s", out)
	}
	p.call("POST", "/containers/c1/start", "")
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{"/v1.51/containers/c1/stats?stream=0&one-shot=1", 200, `"networks":{"eth0":{"rx_bytes":1,`},
		{"/v1.51/containers/c1/stats?stream=0", 200, `"io_service_time_recursive":[]`},
		{"/v1.51/containers/c1/stats?stream=1&one-shot=1", 400, "cannot have stream=true and one-shot=true"},
		{"/v1.40/containers/c1/stats?stream=0&one-shot=x", 200, `"pids_stats":{"current":2}`},
		{"/containers/nosuch/stats", 404, "No such container: nosuch"},
		{"/containers/nosuch/stats?stream=0", 404, "No such container: nosuch"},
	} {
		if status, out := p.call("GET", c.path, ""); status != c.status || !strings.Contains(out, c.want) {
			t.Errorf("%s: %d %s, want %d with %q", c.path, status, out, c.status, c.want)
		}
	}
	resp := p.open("GET", "/containers/c1/stats", "") // a stream without being asked
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for n := uint64(1); n <= 3 && lines.Scan(); n++ {
		var doc statsDoc
		if err := json.Unmarshal(lines.Bytes(), &doc); err != nil || doc.CPUStats.CPUUsage.TotalUsage != n {
			t.Errorf("frame %d: %v %s", n, err, lines.Bytes())
		}
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/json" || lines.Err() != nil {
		t.Errorf("content type %q, %v", ct, lines.Err())
	}
}
