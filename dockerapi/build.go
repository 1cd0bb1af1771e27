package dockerapi

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func (s *Server) buildRoutes() []route {
	return []route{
		{"POST", "/build", s.build, 24},
		{"POST", "/build/prune", s.buildPrune, 31},
		{"POST", "/session", s.noBuildKit, 39},
		{"POST", "/grpc", s.noBuildKit, 39},
	}
}

// noBuildKit answers as a server that has never heard of BuildKit, from which clients fall back to POST /build.
func (s *Server) noBuildKit(context.Context, *request) (response, error) { return nil, pageNotFound() }

// build is docker build. The context is whole before the build begins, so that nothing is answered while the client sends, and the end of
// the client ends the build.
func (s *Server) build(ctx context.Context, r *request) (response, error) {
	b, err := s.buildRequest(r)
	if err != nil {
		r.refuse()
		return nil, err
	}
	return func(a *answer) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		out := &buildReport{w: progressWriter{a: a, stop: cancel, bars: true}, quiet: b.Quiet}
		return out.end(s.runBuild(ctx, r, b, out))
	}, nil
}

// refuse reads away an upload that nobody wants, so that its client gets to read why.
func (r *request) refuse() {
	io.CopyN(io.Discard, r.Body, maxDrain) // its error is that the client has gone
}

func (s *Server) runBuild(ctx context.Context, r *request, b brig.BuildRequest, out *buildReport) (brig.Digest, error) {
	remove, err := s.buildContext(ctx, r, &b, out)
	if err != nil {
		return "", err
	}
	defer remove()
	b.Quiet = false // the report is kept back here: what went wrong is said in full
	return s.Builds.Build(ctx, b, out.line)
}

// buildContext gets the context and puts it into b.
func (s *Server) buildContext(ctx context.Context, r *request, b *brig.BuildRequest, out *buildReport) (remove func(), err error) {
	remote := r.query.Get("remote")
	if remote == "" {
		if b.Context, remove, err = s.Contexts.Receive(ctx, r.Body); err != nil {
			r.refuse()
		}
		return remove, err
	}
	r.refuse() // a body has no say then
	var dockerfile string
	b.Context, dockerfile, remove, err = s.Contexts.Fetch(ctx, remote, func(p brig.Progress) { out.line(brig.BuildLine{Progress: &p}) })
	if dockerfile != "" {
		b.Dockerfile = dockerfile
	}
	return remove, err
}

// maxQuiet bounds in lines what a quiet build keeps to say if it fails: its end.
const maxQuiet = 10000

// A buildReport sends a build's report as it comes, or, of a quiet build, keeps it for the case that it fails. The answer's headers go out
// with the first line.
type buildReport struct {
	quiet bool

	mu   sync.Mutex
	w    progressWriter
	kept []progressMessage // quiet
}

// line takes one piece of the report. It is safe for concurrent use.
func (o *buildReport) line(l brig.BuildLine) {
	var m progressMessage
	switch {
	case l.Out != "":
		m.Stream = l.Out
	case l.Err != "":
		m.Stream = "\x1b[91m" + l.Err + "\x1b[0m" // red, also where there is no terminal: dockerd can't know
	case l.Progress != nil:
		m = newProgressMessage(*l.Progress)
	case l.Image != "":
		m.Aux = struct{ ID brig.Digest }{l.Image}
	default:
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.quiet {
		o.w.send(m)
		return
	}
	if len(o.kept) >= maxQuiet {
		o.kept = append(o.kept[:0], o.kept[maxQuiet/2:]...)
	}
	o.kept = append(o.kept, m)
}

// end says how it ended. An error before the first line is returned, to be answered as one.
func (o *buildReport) end(image brig.Digest, err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		if o.quiet {
			o.w.send(progressMessage{Stream: string(image) + "\n"})
		}
		return nil
	}
	for _, m := range o.kept {
		o.w.send(m)
	}
	if !o.w.a.begun() {
		if errs.Is(err, errs.Unauthorized) || errs.Is(err, errs.Unavailable) {
			err = errs.As(errs.Internal, err) // dockerd's 500 for both
		}
		return err
	}
	failure := &jsonstream.Error{Message: err.Error()}
	var run *brig.RunFailed
	if errors.As(err, &run) {
		failure.Code = run.Code
	}
	o.w.send(progressMessage{ErrorDetail: failure, Error: err.Error()})
	return nil
}
