package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	goruntime "runtime"
	"time"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/metrics"
	brt "github.com/brigd/brig/runtime"
)

// newMetrics measures e, whose store is open; it is asked for nothing before e is complete.
func newMetrics(e *engine) *metrics.Metrics {
	f := hostFacts()
	driver, _ := e.store.Driver()
	revision, _ := commit()
	return metrics.New(metrics.About{
		Version: version, Commit: revision, Instance: e.root.instance, GraphDriver: driver, Architecture: f.machine, Kernel: f.kernel,
		OS: f.os, OSType: goruntime.GOOS, OSVer: f.osVersion, CPUs: goruntime.NumCPU(), Memory: f.memory,
	}, func() metrics.Now {
		n := e.containers.Count()
		events, subscribers := e.bus.Count()
		return metrics.Now{Running: n.Running, Paused: n.Paused, Stopped: n.Stopped, Volumes: n.Volumes,
			Images: e.images.Count(), Events: events, Subscribers: subscribers}
	})
}

// observer is nil where nothing is measured.
func (e *engine) observer() brt.Observer {
	if e.metrics == nil {
		return nil
	}
	return e.metrics
}

// answered is dockerapi's hook; nil where nothing is measured.
func (e *engine) answered() func(method, route string, status int, took time.Duration) {
	if e.metrics == nil {
		return nil
	}
	return e.metrics.Answered
}

// serveMetrics answers at addr until the returned function is called, which waits. Whoever reaches the address is answered: as with
// dockerd that is the operator's choice, for what is shown names no container and changes nothing.
func serveMetrics(ctx context.Context, addr string, m *metrics.Metrics, log *slog.Logger) (stop func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, errs.Wrap(err, "listen for metrics on %s", addr)
	}
	if a, is := l.Addr().(*net.TCPAddr); is && !a.IP.IsLoopback() {
		log.Warn("metrics are shown to everybody who can reach this address", "address", l.Addr().String())
	}
	srv := &http.Server{
		Handler: m.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not shown any more", "address", addr, "err", err)
		}
	}()
	return func() { srv.Close(); <-done }, nil
}
