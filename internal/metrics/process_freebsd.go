package metrics

import (
	"encoding/binary"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// process tells of brigd's own process by the names that Prometheus' own collector has, which knows nothing of FreeBSD.
func process() []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	return []prometheus.Collector{
		gauge("process_open_fds", "Descriptors that are open.", openFiles),
		gauge("process_resident_memory_bytes", "Memory that is resident, in bytes.", resident),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "process_cpu_seconds_total", Help: "Processor time of the user and the system, in seconds."}, spent),
	}
}

// openFiles: kern.proc.nfds, which counts those of its caller (kern_descrip.c).
func openFiles() float64 {
	b, err := unix.SysctlRaw("kern.proc.nfds", 0)
	if err != nil || len(b) < 4 {
		return 0
	}
	return float64(binary.NativeEndian.Uint32(b))
}

// resident: ki_rssize of struct kinfo_proc (sys/user.h), in pages; it stands at the same place on all machines of 64 bits.
func resident() float64 {
	const atPages = 264
	b, err := unix.SysctlRaw("kern.proc.pid", os.Getpid())
	if err != nil || len(b) < atPages+8 {
		return 0
	}
	return float64(binary.NativeEndian.Uint64(b[atPages:])) * float64(os.Getpagesize())
}

func spent() float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	seconds := func(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
