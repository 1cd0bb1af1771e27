package dockerapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
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
		{"POST", "/brig/v1/gc", s.collect, unversioned},
		{"POST", "/brig/v1/doctor", s.examine, unversioned},
		{"POST", "/brig/v1/images/import", s.aciImport, unversioned},
		{"POST", "/brig/v1/build", s.aciBuild, unversioned},
		{"GET", "/brig/v1/images/{name:.*}/aci", s.aciExport, unversioned},
		{"GET", "/brig/v1/images/{name:.*}/aci/incremental", s.aciExportIncremental, unversioned},
		{"GET", "/brig/v1/images/{name:.*}/acis", s.aciExportLayered, unversioned},
		{"GET", "/brig/v1/images/{name:.*}/manifest", s.aciManifest, unversioned},
		{"GET", "/brig/v1/images/{name:.*}/check", s.imageCheck, unversioned},
		{"POST", "/brig/v1/identity/verify", s.identityVerify, unversioned},
		{"GET", "/brig/v1/identity/jwks", s.identityKeys, unversioned},
		{"POST", "/brig/v1/metadata/rotate", s.metadataRotate, unversioned},
		{"GET", "/brig/v1/trust", s.trustList, unversioned},
		{"POST", "/brig/v1/trust", s.trustAdd, unversioned},
		{"POST", "/brig/v1/trust/find", s.trustFind, unversioned},
		{"DELETE", "/brig/v1/trust/{fingerprint}", s.trustRemove, unversioned},
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

// signatureHeader has the detached signature of an ACI that is the request's body, in base64.
const signatureHeader = "X-Brig-Signature"

// importLine is one line of the answer to an import: progress, and at last Result or Error.
type importLine struct {
	ID             string            `json:",omitempty"`
	Status         string            `json:",omitempty"`
	Current, Total int64             `json:",omitempty"` // bytes
	Result         *brig.ACIImported `json:",omitempty"`
	Error          string            `json:",omitempty"`
}

// aciImport takes the ACI as the request's body, or from where the query's "from" says. An error before the first line is answered as one.
func (s *Server) aciImport(ctx context.Context, r *request) (response, error) {
	p := brig.ACIImport{From: r.query.Get("from"), Insecure: r.flag("insecure"), Discover: r.flag("discover"), Body: r.Body}
	if text := r.Header.Get(signatureHeader); text != "" {
		var err error
		if p.Signature, err = base64.StdEncoding.DecodeString(text); err != nil || len(p.Signature) == 0 {
			return nil, errs.New(errs.Invalid, "the header %s is no base64", signatureHeader)
		}
	}
	if p.From != "" {
		if err := r.drain(); err != nil {
			return nil, err
		}
	}
	body := r.Body
	return func(a *answer) error {
		if err := http.NewResponseController(a.ResponseWriter).EnableFullDuplex(); err != nil {
			return errs.Wrap(err, "answer while the upload goes on")
		}
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		send := func(l importLine) {
			if !a.begun() {
				a.Header().Set("Content-Type", "application/x-ndjson")
			}
			if json.NewEncoder(a).Encode(l) != nil {
				stop() // the client has gone
			}
			a.Flush()
		}
		got, err := s.ACIs.ImportACI(ctx, p, func(b brig.Progress) {
			send(importLine{ID: b.ID, Status: b.Status, Current: b.Current, Total: b.Total})
		})
		switch {
		case err == nil:
			got.Warnings = nonNil(got.Warnings)
			send(importLine{Result: got})
		case a.begun():
			send(importLine{Error: err.Error()})
			err = nil
		}
		io.CopyN(io.Discard, body, maxDrain) // its error is that the client has gone
		return err
	}, nil
}

func (s *Server) aciExport(ctx context.Context, r *request) (response, error) {
	return asStream("application/x-tar", func(w io.Writer) error { return s.Transfers.ExportACI(ctx, r.vars["name"], w) }), nil
}

// aciExportLayered answers with a tar of ACIs, one for each layer, from the lowest up.
func (s *Server) aciExportLayered(ctx context.Context, r *request) (response, error) {
	return asStream("application/x-tar", func(w io.Writer) error { return s.ACIs.ExportLayered(ctx, r.vars["name"], w) }), nil
}

func (s *Server) aciManifest(ctx context.Context, r *request) (response, error) {
	b, err := s.Transfers.ImageBlob(ctx, r.vars["name"], "aci")
	if err != nil {
		return nil, err
	}
	return asBytes("application/json", b), nil
}

// imageCheck says how an image will do on the host that the query names; without one, on this.
func (s *Server) imageCheck(ctx context.Context, r *request) (response, error) {
	platform, err := s.platform(r)
	if err != nil {
		return nil, err
	}
	report, err := s.Variants.CheckImage(ctx, r.vars["name"], platform, r.query.Get("host"))
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, report), nil
}
