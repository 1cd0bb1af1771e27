package dockerapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	goruntime "runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gorilla/mux"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/logopts"
)

// Backends are what the handlers call; every field must be set. One value may stand in several fields.
type Backends struct {
	Containers    Containers
	Lifecycle     Lifecycle
	Freezer       Freezer
	Updates       Updates
	Meter         Meter
	Terminals     Terminals
	Execs         Execs
	Files         Files
	Images        Images
	Transfers     Transfers
	Pushes        Pushes
	Imports       Imports
	Commits       Commits
	Builds        Builds
	Contexts      Contexts
	Caches        Caches
	Distributions Distributions
	ACIs          ACIs
	Variants      Variants
	ACIBuilds     ACIBuilds
	Trust         Trust
	Volumes       Volumes
	Networks      Networks
	Memberships   Memberships
	System        System
	Housekeeping  Housekeeping
	Pods          Pods
	PodLifecycle  PodLifecycle
	Identities    Identities
}

// complete names the first field that is not set.
func (b *Backends) complete() error {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"Containers", b.Containers != nil}, {"Lifecycle", b.Lifecycle != nil}, {"Freezer", b.Freezer != nil}, {"Updates", b.Updates != nil}, {"Meter", b.Meter != nil},
		{"Terminals", b.Terminals != nil}, {"Execs", b.Execs != nil}, {"Files", b.Files != nil}, {"Images", b.Images != nil},
		{"Transfers", b.Transfers != nil}, {"Pushes", b.Pushes != nil}, {"Imports", b.Imports != nil}, {"Commits", b.Commits != nil}, {"Builds", b.Builds != nil}, {"Contexts", b.Contexts != nil}, {"Caches", b.Caches != nil}, {"Distributions", b.Distributions != nil}, {"ACIs", b.ACIs != nil}, {"ACIBuilds", b.ACIBuilds != nil}, {"Variants", b.Variants != nil}, {"Trust", b.Trust != nil}, {"Volumes", b.Volumes != nil}, {"Networks", b.Networks != nil}, {"Memberships", b.Memberships != nil}, {"System", b.System != nil}, {"Housekeeping", b.Housekeeping != nil}, {"Identities", b.Identities != nil}, {"Pods", b.Pods != nil}, {"PodLifecycle", b.PodLifecycle != nil},
	} {
		if !f.set {
			return errs.New(errs.Internal, "dockerapi: backend %s is missing", f.name)
		}
	}
	return nil
}

// Config is all that a Server needs.
type Config struct {
	Backends
	Log     *slog.Logger
	Version string // brigd's own, for the Server header and /version
	OSType  string // the Ostype header; "": this program's GOOS
	// LogDefault is the log driver of containers whose request names none, and the options where the driver is the same; it is valid.
	LogDefault brig.LogConfig
	// What a container gets that doesn't choose, for inspect to show: cgroup namespace ("host", "private") and OCI runtime. "": not shown.
	CgroupNS, Runtime string
	// Answered, if not nil, is told of each request that has been answered, or handed over (status 101): its route's template, such as
	// /containers/{name}/json, or "other" for both where there is no such route, and how long it took. It must not wait.
	Answered func(method, route string, status int, took time.Duration)
}

// Server answers the Docker Engine API. It holds no state of its own and is safe for concurrent use.
type Server struct {
	Backends
	log      *slog.Logger
	version  string
	ostype   string
	host     createHost
	mux      *mux.Router
	answered func(method, route string, status int, took time.Duration) // Config's; may be nil
	patience time.Duration                                              // for bodies, at most bodyTime; tests have less
	// logDefault is Config's, its driver never empty.
	logDefault brig.LogConfig
}

// New returns a Server that has every route of the table.
func New(c Config) (*Server, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.OSType == "" {
		c.OSType = goruntime.GOOS
	}
	s := &Server{Backends: c.Backends, log: c.Log, version: c.Version, ostype: c.OSType, answered: c.Answered, patience: bodyTime, logDefault: logopts.Merge(brig.LogConfig{}, c.LogDefault)}
	s.host = createHost{NCPU: goruntime.NumCPU(), OS: c.OSType, Log: s.logDefault, CgroupNS: c.CgroupNS, Runtime: c.Runtime}
	s.mux = s.newMux()
	return s, nil
}

// ServeHTTP implements http.Handler: headers that every answer has, panics, the access log, then the route's handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	a := &answer{ResponseWriter: w, patience: s.patience}
	h := w.Header()
	h.Set("Server", "brig/"+s.version+" ("+s.ostype+")")
	h.Set("Api-Version", MaxVersion.String())
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", s.ostype)
	defer s.finish(a, r, begin)
	if err := checkAccess(r); err != nil {
		writeError(a, err)
		return
	}
	s.mux.ServeHTTP(a, r)
}

// finish logs the access. A panic becomes a 500, or an aborted connection where the answer had begun.
func (s *Server) finish(a *answer, r *http.Request, begin time.Time) {
	p := recover()
	if p != nil && p != http.ErrAbortHandler {
		s.log.Error("handler panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		if !a.begun() {
			writeError(a, errs.New(errs.Internal, "internal error: see the daemon's log"))
			p = nil
		}
	}
	if !a.hijacked && r.ContentLength != 0 {
		a.reading(bodyTime) // net/http reads what the handler has left of the body
	}
	took := time.Since(begin)
	s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", a.status, "took", took)
	switch {
	case s.answered == nil:
	case a.route == "":
		s.answered("other", "other", a.status, took)
	default:
		s.answered(r.Method, a.route, a.status, took)
	}
	if p != nil && !a.hijacked {
		panic(http.ErrAbortHandler)
	}
}

// serve runs one handler and writes its response or its error.
func (s *Server) serve(h handler, a *answer, r *request) {
	resp, err := h(r.Context(), r)
	if err == nil && resp != nil {
		err = resp(a)
	}
	switch {
	case err == nil:
	case !a.begun():
		if errs.KindOf(err) == errs.Internal {
			s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		}
		writeError(a, err)
	default:
		s.log.Debug("answer broken off", "method", r.Method, "path", r.URL.Path, "err", err)
		if !a.hijacked {
			panic(http.ErrAbortHandler) // so that the client doesn't take what it has for the whole
		}
	}
}

// An answer is a ResponseWriter that knows whether its header has gone out.
type answer struct {
	http.ResponseWriter
	status   int
	hijacked bool
	route    string        // its template; "": none of the table's
	patience time.Duration // Server's
}

func (a *answer) begun() bool { return a.status != 0 || a.hijacked }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Flush sends what has been written, headers included.
func (a *answer) Flush() {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	http.NewResponseController(a.ResponseWriter).Flush() // fails only where the connection has failed; the next Write says so
}

// reading bounds the time in which the rest of the request's body must come; 0: it may take any time.
func (a *answer) reading(within time.Duration) {
	var at time.Time
	if within > 0 {
		at = time.Now().Add(min(within, a.patience))
	}
	http.NewResponseController(a.ResponseWriter).SetReadDeadline(at) // fails only where there is no connection to wait for
}

// takeOver hands the connection to the caller, who closes it.
func (a *answer) takeOver() (*hijackedConn, error) {
	conn, buf, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		return nil, errs.Wrap(err, "take over the connection")
	}
	a.hijacked, a.status = true, http.StatusSwitchingProtocols
	return &hijackedConn{Conn: conn, r: buf.Reader}, nil
}

// shutdownGrace is how long running requests may go on after Serve's context has ended. Then their contexts end, and after as long
// again their connections.
const shutdownGrace = time.Second

// Serve answers on the listeners until ctx ends or one of them fails, and returns when all handlers have. It closes the listeners.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var handlers sync.WaitGroup
	// A connection that has been used may rest for ever, as with dockerd: a client that keeps one for its next request must not find it closed.
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			s.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    1 << 20,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, l := range listeners {
		serving.Go(func() { failed <- srv.Serve(l) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	shutdown(srv)
	cancel()
	shutdown(srv)
	srv.Close() // and with it what is still being written to clients that don't read
	serving.Wait()
	handlers.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errs.Wrap(err, "serve the API")
}

// shutdown closes the listeners and waits for requests to end, at most shutdownGrace. Its only error is that the time is over.
func shutdown(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	srv.Shutdown(ctx)
}
