//go:build !freebsd

package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// process tells of brigd's own process.
func process() []prometheus.Collector {
	return []prometheus.Collector{collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})}
}
