package metrics

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape returns each sample's value by "name{label=value,…}"; of histograms the count.
func scrape(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for name, f := range families {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		for _, s := range f.Metric {
			var labels []string
			for _, l := range s.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := name
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
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

func TestScrape(t *testing.T) {
	now := Now{Running: 1, Paused: 2, Stopped: 3, Images: 4, Volumes: 5, Subscribers: 6, Events: 7}
	m := New(About{Version: "v", Commit: "c", Instance: "i", GraphDriver: "overlay", Architecture: "x86_64", Kernel: "6", OS: "Debian", OSType: "linux", OSVer: "12", CPUs: 2, Memory: 1 << 30},
		func() Now { return now })
	before := scrape(t, m)
	want := map[string]float64{
		`engine_daemon_engine_info{architecture=x86_64,commit=c,daemon_id=i,graphdriver=overlay,kernel=6,os=Debian,os_type=linux,os_version=12,version=v}`: 1,
		`engine_daemon_engine_cpus_cpus`: 2, `engine_daemon_engine_memory_bytes`: 1 << 30,
		`engine_daemon_container_states_containers{state=running}`: 1, `engine_daemon_container_states_containers{state=paused}`: 2, `engine_daemon_container_states_containers{state=stopped}`: 3,
		`engine_daemon_events_total`: 7, `engine_daemon_events_subscribers_total`: 6, `brig_images`: 4, `brig_volumes`: 5,
		`engine_daemon_health_checks_total`: 0, `engine_daemon_health_checks_failed_total`: 0, `engine_daemon_container_actions_seconds{action=start}`: 0,
		`brig_image_pull_seconds`: 0, `brig_image_pull_bytes_total`: 0,
	}
	compare(t, before, want)
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "process_open_fds"} {
		if before[name] < 1 {
			t.Errorf("%s is %v", name, before[name])
		}
	}
	m.Took("start", time.Second)
	m.Took("start", time.Millisecond)
	m.Took("delete", time.Second)
	m.Probed(true)
	m.Probed(false)
	m.Pulled(time.Second, nil)
	m.Pulled(time.Second, errors.New("x"))
	m.Downloaded(100)
	m.Downloaded(23)
	m.Answered("GET", "/containers/{name}/json", 200, time.Second)
	m.Answered("GET", "/containers/{name}/json", 404, time.Second)
	m.Answered("POST", "/containers/{name}/attach", 101, time.Hour)
	now.Running = 9
	after := scrape(t, m)
	compare(t, after, map[string]float64{
		`engine_daemon_container_states_containers{state=running}`:                        9,
		`engine_daemon_container_actions_seconds{action=start}`:                           2,
		`engine_daemon_container_actions_seconds{action=delete}`:                          1,
		`engine_daemon_container_actions_seconds{action=stop}`:                            0,
		`engine_daemon_health_checks_total`:                                               2,
		`engine_daemon_health_checks_failed_total`:                                        1,
		`brig_image_pulls_total{result=ok}`:                                               1,
		`brig_image_pulls_total{result=failed}`:                                           1,
		`brig_image_pull_seconds`:                                                         1,
		`brig_image_pull_bytes_total`:                                                     123,
		`brig_api_requests_total{method=GET,route=/containers/{name}/json,status=200}`:    1,
		`brig_api_requests_total{method=GET,route=/containers/{name}/json,status=404}`:    1,
		`brig_api_requests_total{method=POST,route=/containers/{name}/attach,status=101}`: 1,
		`brig_api_request_seconds{method=GET,route=/containers/{name}/json}`:              2,
	})
	if _, there := after[`brig_api_request_seconds{method=POST,route=/containers/{name}/attach}`]; there {
		t.Error("a stream's length is taken for an answer's")
	}
}

func compare(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for k, v := range want {
		if g, there := got[k]; !there || g != v {
			t.Errorf("%s is %v (there: %v), want %v", k, g, there, v)
		}
	}
}

func TestOnlyMetricsAreAnswered(t *testing.T) {
	srv := httptest.NewServer(New(About{}, func() Now { return Now{} }).Handler())
	defer srv.Close()
	for do, want := range map[string]int{"GET /metrics": 200, "POST /metrics": 405, "GET /": 404, "GET /debug/pprof/": 404, "GET /metrics/x": 404} {
		method, path, _ := strings.Cut(do, " ")
		req, err := http.NewRequest(method, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", do, resp.StatusCode, want)
		}
	}
}

// More scrapes at once than are answered get 503, and wait for nothing.
func TestManyScrapes(t *testing.T) {
	release, inside := make(chan struct{}), make(chan struct{}, 100)
	m := New(About{}, func() Now { inside <- struct{}{}; <-release; return Now{} })
	srv := httptest.NewServer(m.Handler())
	defer srv.Close()
	var scrapes sync.WaitGroup
	get := func() int {
		resp, err := srv.Client().Get(srv.URL + "/metrics")
		if err != nil {
			t.Error(err)
			return 0
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	for range maxScrapes {
		scrapes.Go(func() {
			if code := get(); code != 200 {
				t.Errorf("status %d", code)
			}
		})
	}
	for range maxScrapes {
		<-inside
	}
	if code := get(); code != 503 {
		t.Errorf("one too many: %d", code)
	}
	close(release)
	scrapes.Wait()
}
