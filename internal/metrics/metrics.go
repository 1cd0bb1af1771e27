// Package metrics shows what brigd does in Prometheus's format. Names that begin with engine_daemon_ are dockerd's and mean what they do
// there, so that dashboards for dockerd show brig too; the others begin with brig_.
//
// A scrape reads counters and asks Sources.Now; it starts no process, and waits for no container.
package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// About is what brigd and its host are; it doesn't change while brigd runs.
type About struct {
	Version, Commit, Instance, GraphDriver  string
	Architecture, Kernel, OS, OSType, OSVer string
	CPUs                                    int
	Memory                                  int64 // bytes
}

// Now is what there is at the moment of a scrape.
type Now struct {
	Running, Paused, Stopped, Images, Volumes, Subscribers int
	Events                                                 uint64 // published since brigd started
}

// Metrics counts. Its methods may be used from several goroutines.
type Metrics struct {
	registry        *prometheus.Registry
	actions         *prometheus.HistogramVec
	probes, failed  prometheus.Counter
	pulls           *prometheus.CounterVec
	pullTime        prometheus.Histogram
	pullBytes       prometheus.Counter
	requests        *prometheus.CounterVec
	requestDuration *prometheus.HistogramVec
}

// actions are those that are shown from the start, with no times yet.
var actions = []string{"changes", "commit", "create", "delete", "exec", "kill", "restart", "start", "stop"}

// New returns metrics with a registry of their own. now is called at each scrape, not before, by several at once; it must not wait.
func New(a About, now func() Now) *Metrics {
	const engine = "engine_daemon_"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		actions: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: engine + "container_actions_seconds", Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
			Help: "The number of seconds that each container action that succeeded took"}, []string{"action"}),
		probes: counter(engine+"health_checks_total", "The total number of health checks"),
		failed: counter(engine+"health_checks_failed_total", "The total number of failed health checks"),
		pulls:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "brig_image_pulls_total", Help: "Pulled references, by result: ok or failed"}, []string{"result"}),
		pullTime: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "brig_image_pull_seconds", Buckets: []float64{.1, .5, 1, 5, 10, 30, 60, 300, 1800},
			Help: "The number of seconds that each pull that succeeded took"}),
		pullBytes: counter("brig_image_pull_bytes_total", "Bytes of layers that came from registries, compressed as they were"),
		requests:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "brig_api_requests_total", Help: "Answered requests of the API, by route, method and status"}, []string{"route", "method", "status"}),
		requestDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "brig_api_request_seconds", Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10},
			Help: "The number of seconds that each request of the API took to its end, streams that were taken over (status 101) left out"}, []string{"route", "method"}),
	}
	for _, name := range actions {
		m.actions.WithLabelValues(name)
	}
	m.registry.MustRegister(process()...)
	m.registry.MustRegister(m.actions, m.probes, m.failed, m.pulls, m.pullTime, m.pullBytes, m.requests, m.requestDuration, newState(a, now),
		collectors.NewGoCollector())
	return m
}

// Took counts an act on a container that succeeded.
func (m *Metrics) Took(action string, d time.Duration) {
	m.actions.WithLabelValues(action).Observe(d.Seconds())
}

// Probed counts a health check.
func (m *Metrics) Probed(healthy bool) {
	m.probes.Inc()
	if !healthy {
		m.failed.Inc()
	}
}

// Pulled counts a pull of one reference.
func (m *Metrics) Pulled(d time.Duration, err error) {
	if err != nil {
		m.pulls.WithLabelValues("failed").Inc()
		return
	}
	m.pulls.WithLabelValues("ok").Inc()
	m.pullTime.Observe(d.Seconds())
}

// Downloaded counts bytes of layers.
func (m *Metrics) Downloaded(n int) { m.pullBytes.Add(float64(n)) }

// Answered counts a request of the API. route is a template, never a path that a client made up: each one costs memory for good.
func (m *Metrics) Answered(method, route string, status int, d time.Duration) {
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	if status != http.StatusSwitchingProtocols {
		m.requestDuration.WithLabelValues(route, method).Observe(d.Seconds())
	}
}

// maxScrapes is how many scrapes are answered at once; more get 503.
const maxScrapes = 4

// Handler answers GET /metrics, and nothing else.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	return mux
}

// state collects Now.
type state struct {
	now                         func() Now
	fixed                       []prometheus.Metric
	containers, images, volumes *prometheus.Desc
	events, subscribers         *prometheus.Desc
}

func newState(a About, now func() Now) *state {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	const engine = "engine_daemon_"
	info := desc(engine+"engine_info", "The information related to the engine and the OS it is running on",
		"architecture", "commit", "daemon_id", "graphdriver", "kernel", "os", "os_type", "os_version", "version")
	gauge := func(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
		return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	return &state{
		now: now,
		fixed: []prometheus.Metric{
			gauge(info, 1, a.Architecture, a.Commit, a.Instance, a.GraphDriver, a.Kernel, a.OS, a.OSType, a.OSVer, a.Version),
			gauge(desc(engine+"engine_cpus_cpus", "The number of cpus that the host system of the engine has"), float64(a.CPUs)),
			gauge(desc(engine+"engine_memory_bytes", "The number of bytes of memory that the host system of the engine has"), float64(a.Memory)),
		},
		containers:  desc(engine+"container_states_containers", "The count of containers in various states", "state"),
		events:      desc(engine+"events_total", "The number of events logged"),
		subscribers: desc(engine+"events_subscribers_total", "The number of current subscribers to events"),
		images:      desc("brig_images", "The number of images"),
		volumes:     desc("brig_volumes", "The number of volumes"),
	}
}

// Describe is prometheus.Collector's.
func (s *state) Describe(c chan<- *prometheus.Desc) {
	for _, m := range s.fixed {
		c <- m.Desc()
	}
	for _, d := range []*prometheus.Desc{s.containers, s.events, s.subscribers, s.images, s.volumes} {
		c <- d
	}
}

// Collect sends what there is now.
func (s *state) Collect(c chan<- prometheus.Metric) {
	for _, m := range s.fixed {
		c <- m
	}
	n := s.now()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(s.containers, n.Running, "running")
	gauge(s.containers, n.Paused, "paused")
	gauge(s.containers, n.Stopped, "stopped")
	gauge(s.subscribers, n.Subscribers)
	gauge(s.images, n.Images)
	gauge(s.volumes, n.Volumes)
	c <- prometheus.MustNewConstMetric(s.events, prometheus.CounterValue, float64(n.Events))
}
