package dockerapi

import (
	"context"
	"encoding/json"
	"io"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// buildLine is one line of the answer to a build in Jetpack's way: what the command says, and at last Result or Error.
type buildLine struct {
	Out, Err []byte            `json:",omitempty"`
	Result   *brig.ACIImported `json:",omitempty"`
	Error    string            `json:",omitempty"`
}

// aciBuild takes the build directory as a tar in the body; the query has the base image, each arg of the command, and tags. An error before the first line
// is answered as one.
func (s *Server) aciBuild(ctx context.Context, r *request) (response, error) {
	b := brig.ACIBuild{Base: r.query.Get("base"), Args: r.query["arg"], Tags: r.query["tag"], Context: r.Body}
	if b.Base == "" {
		return nil, errs.New(errs.Invalid, "no base image specified")
	}
	return func(a *answer) error {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		var mu sync.Mutex
		send := func(l buildLine) {
			mu.Lock()
			defer mu.Unlock()
			if !a.begun() {
				a.Header().Set("Content-Type", "application/x-ndjson")
			}
			if json.NewEncoder(a).Encode(l) != nil {
				stop() // the client has gone
			}
			a.Flush()
		}
		got, err := s.ACIBuilds.BuildACI(ctx, b, writing(func(p []byte) { send(buildLine{Out: p}) }), writing(func(p []byte) { send(buildLine{Err: p}) }))
		switch {
		case err == nil:
			got.Warnings = nonNil(got.Warnings)
			send(buildLine{Result: got})
		case a.begun():
			send(buildLine{Error: err.Error()})
			err = nil
		}
		return err
	}, nil
}

// writing is a writer that never fails.
type writing func(p []byte)

// Write implements io.Writer.
func (w writing) Write(p []byte) (int, error) { w(p); return len(p), nil }

// aciExportIncremental answers with the ACI that brings an image's own layer to its dependencies.
func (s *Server) aciExportIncremental(ctx context.Context, r *request) (response, error) {
	return asStream("application/x-tar", func(w io.Writer) error { return s.ACIBuilds.ExportIncremental(ctx, r.vars["name"], w) }), nil
}
