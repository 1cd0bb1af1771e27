package dockerapi

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// brigRoutes are brig's own endpoints, for what Docker has no words for.
func (s *Server) brigRoutes() []route {
	return []route{
		{"GET", "/brig/v1/images", s.aciList, unversioned},
		{"POST", "/brig/v1/images/import", s.aciImport, unversioned},
		{"GET", "/brig/v1/images/{name:.*}/aci", s.aciExport, unversioned},
		{"GET", "/brig/v1/images/{name:.*}/manifest", s.aciManifest, unversioned},
	}
}

// ACIImage is one image as GET /brig/v1/images shows it.
type ACIImage struct {
	ID       brig.Digest // Docker's image ID
	Tags     []string
	Digests  []string
	Platform string
	Created  time.Time
	Size     int64 // bytes, uncompressed
	ACI      struct {
		Name     string      // appc name
		ID       string      // sha512-…; "" until it has been computed
		Manifest brig.Digest // of the manifest's bytes
	}
}

func (s *Server) aciList(ctx context.Context, _ *request) (response, error) {
	all, err := s.Images.ImageList(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]ACIImage, len(all))
	for n, i := range all {
		out[n] = ACIImage{ID: i.ID, Tags: nonNil(i.Tags), Digests: nonNil(i.Digests), Platform: i.Platform.String(), Created: i.Created, Size: i.Size}
		out[n].ACI.Name, out[n].ACI.ID, out[n].ACI.Manifest = i.ACI.Name, i.ACI.ID, i.ACI.Manifest
	}
	return asJSON(http.StatusOK, out), nil
}

// aciImport takes the ACI as the request's body. Fields of the answer are those of brig.ACIImported.
func (s *Server) aciImport(ctx context.Context, r *request) (response, error) {
	body := r.Body
	return func(a *answer) error {
		if err := http.NewResponseController(a.ResponseWriter).EnableFullDuplex(); err != nil {
			return errs.Wrap(err, "answer while the upload goes on")
		}
		got, err := s.ACIs.ImportACI(ctx, body)
		if err != nil {
			io.CopyN(io.Discard, body, maxDrain) // its error is that the client has gone
			return err
		}
		got.Warnings = nonNil(got.Warnings)
		return writeJSON(a, http.StatusCreated, got)
	}, nil
}

func (s *Server) aciExport(ctx context.Context, r *request) (response, error) {
	return asStream("application/x-tar", func(w io.Writer) error { return s.Transfers.ExportACI(ctx, r.vars["name"], w) }), nil
}

func (s *Server) aciManifest(ctx context.Context, r *request) (response, error) {
	b, err := s.Transfers.ImageBlob(ctx, r.vars["name"], "aci")
	if err != nil {
		return nil, err
	}
	return asBytes("application/json", b), nil
}
