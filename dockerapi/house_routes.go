package dockerapi

import (
	"context"
	"net/http"

	"github.com/brigd/brig/internal/brig"
)

// collect answers with brig.Collected. ?dryRun=1 changes nothing.
func (s *Server) collect(ctx context.Context, r *request) (response, error) {
	got, err := s.Housekeeping.Collect(ctx, r.flag("dryRun"))
	if err != nil {
		return nil, err
	}
	got.Notes = nonNil(got.Notes)
	return asJSON(http.StatusOK, got), nil
}

// examine answers with brig.Diagnosis. ?fix=1 mends, ?deep=1 reads all blobs.
func (s *Server) examine(ctx context.Context, r *request) (response, error) {
	d, err := s.Housekeeping.Examine(ctx, brig.Examination{Fix: r.flag("fix"), Deep: r.flag("deep")})
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, d), nil
}
