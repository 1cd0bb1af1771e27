package integration

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/brigd/brig/integration/internal/testbed"

	dto "github.com/prometheus/client_model/go"
)

// scraped is what /metrics says at addr: each sample by "name{label=value,…}", histograms by their count.
func scraped(t *testing.T, addr string) map[string]float64 {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	equal(t, "status", resp.StatusCode, 200)
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for name, f := range families {
		for _, s := range f.Metric {
			var labels []string
			for _, l := range s.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := fmt.Sprintf("%s{%s}", name, strings.Join(labels, ","))
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				out[key] = float64(s.GetHistogram().GetSampleCount())
			case dto.MetricType_COUNTER:
				out[key] = s.GetCounter().GetValue()
			default:
				out[key] = s.GetGauge().GetValue()
			}
		}
	}
	return out
}

// freeAddr is a loopback address that nobody listens at.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Metrics count what real containers do, and looking at them changes nothing and starts nothing.
func TestMetrics(t *testing.T) {
	addr := freeAddr(t)
	s, cli := daemon(t, "--metrics-addr", addr)
	before := scraped(t, addr)
	for key := range before {
		if strings.HasPrefix(key, "engine_daemon_engine_info{") {
			match(t, "info", key, `architecture=\w+,commit=\w*,daemon_id=[0-9a-f]{8},graphdriver=\w+,kernel=[^,]+,os=[^,]+,os_type=(linux|freebsd),os_version=[^,]*,version=[^,]+`)
		}
	}
	if before["brig_image_pull_bytes_total{}"] < 100_000 || before["engine_daemon_engine_memory_bytes{}"] < 1<<20 || before["process_open_fds{}"] < 5 {
		t.Errorf("%v", before)
	}
	get := func(path string) string {
		_, _, body, err := s.Get(bed.ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	done(t, cli, "run", "-d", "--name", "m1", "-v", "mvol:/m", "--health-cmd", "test -e /bad", "--health-interval", "100ms", image("busybox"), "sleep", "600")
	eventually(t, "a failed health check", func() (bool, string) {
		return scraped(t, addr)["engine_daemon_health_checks_failed_total{}"] > 0, "none"
	})
	for range 2 {
		done(t, cli, "run", "--rm", image("busybox"), "true")
	}
	done(t, cli, "exec", "m1", "true")
	done(t, cli, "create", "--name", "m2", image("busybox"))
	done(t, cli, "commit", "m2", "made")
	done(t, cli, "diff", "m2")
	done(t, cli, "pause", "m1")
	get("/containers/m1/json")
	get("/v1.41/containers/m2/json")
	get("/containers/nosuch/json")
	get("/nosuch")
	fds := filesOf(t, s.Pid())
	var after map[string]float64
	for range 10 {
		after = scraped(t, addr)
	}
	for key, want := range map[string]float64{
		"engine_daemon_container_states_containers{state=paused}":  1,
		"engine_daemon_container_states_containers{state=running}": 0,
		"engine_daemon_container_states_containers{state=stopped}": 1,
		"engine_daemon_container_actions_seconds{action=create}":   4,
		"engine_daemon_container_actions_seconds{action=start}":    3,
		"engine_daemon_container_actions_seconds{action=delete}":   2,
		"engine_daemon_container_actions_seconds{action=commit}":   1,
		"engine_daemon_container_actions_seconds{action=changes}":  1,
		"engine_daemon_container_actions_seconds{action=stop}":     0,
		"brig_images{}":                     2,
		"brig_volumes{}":                    1,
		"brig_image_pulls_total{result=ok}": 1,
		"brig_image_pull_seconds{}":         1,
		"brig_api_requests_total{method=POST,route=/containers/create,status=201}":       4,
		"brig_api_requests_total{method=GET,route=/containers/{name}/json,status=404}":   1,
		"brig_api_requests_total{method=other,route=other,status=404}":                   1,
		"brig_api_requests_total{method=POST,route=/containers/{name}/start,status=204}": 3,
	} {
		if got, there := after[key]; !there || got != want {
			t.Errorf("%s is %v (there: %v), want %v", key, got, there, want)
		}
	}
	if n := after["engine_daemon_container_actions_seconds{action=exec}"]; n < 2 {
		t.Errorf("%v execs, and health checks are some too", n)
	}
	if e := after["engine_daemon_events_total{}"]; e < before["engine_daemon_events_total{}"]+20 {
		t.Errorf("%v events", e)
	}
	if c, f := after["engine_daemon_health_checks_total{}"], after["engine_daemon_health_checks_failed_total{}"]; c < 1 || c != f {
		t.Errorf("%v health checks, %v failed", c, f)
	}
	equal(t, "subscribers", after["engine_daemon_events_subscribers_total{}"], 0)
	var told []string
	wait := heard(t, s, &told)
	equal(t, "subscribers", scraped(t, addr)["engine_daemon_events_subscribers_total{}"], 1)
	done(t, cli, "rm", "-f", "m1", "m2")
	// A connection that stays open for the next scrape is one more.
	if now := filesOf(t, s.Pid()); now > fds+6 {
		t.Errorf("%d descriptors before, %d after", fds, now)
	}
	s.Kill()
	wait()
	start(t, s)
	equal(t, "images after a restart", scraped(t, addr)["brig_images{}"], 2)
}

func filesOf(t *testing.T, pid int) int {
	t.Helper()
	n, err := testbed.OpenFiles(pid)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// An address that can't be had, or is none, ends brigd with words; without one nothing listens.
func TestMetricsAddresses(t *testing.T) {
	own(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, _ := daemon(t)
	s.Stop()
	for addr, words := range map[string]string{l.Addr().String(): "address already in use", "9323": "not host:port", "127.0.0.1": "not host:port"} {
		cmd := s.Command(bed.ctx)
		cmd.Args = append(cmd.Args, "--metrics-addr", addr)
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%s: brigd ran", addr)
		}
		match(t, addr, string(out), words)
	}
	start(t, s)
	_, _, body, err := s.Get(bed.ctx, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	match(t, "on the API's socket", body, "page not found")
}
