package dockerapi

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/changes"
	"github.com/brigd/brig/internal/errs"
)

// imageImport is docker import, of what the client sends or of what a URL gives.
func (s *Server) imageImport(ctx context.Context, r *request, platform string) (response, error) {
	q := r.query
	p := brig.ImportRequest{Platform: platform, Message: q.Get("message"), Changes: q["changes"]}
	if src := q.Get("fromSrc"); src != "-" {
		if p.Source = src; !strings.Contains(src, "://") {
			p.Source = "http://" + src
		}
	}
	if _, err := changes.Apply(brig.ImageConfig{}, p.Changes); err != nil { // before the upload
		return nil, err
	}
	if q.Get("repo") != "" {
		ref, err := parseImageRef(q.Get("repo"), q.Get("tag"))
		if err != nil {
			return nil, err
		}
		if ref.digest {
			return nil, errs.New(errs.Invalid, "cannot import digest reference")
		}
		p.Repository, p.Tag = ref.name, ref.tag
	}
	if p.Source != "" {
		if err := r.drain(); err != nil {
			return nil, err
		}
		return withProgress(ctx, true, func(ctx context.Context, report func(brig.Progress)) error {
			return s.Imports.Import(ctx, p, nil, report)
		}), nil
	}
	body := r.Body
	return func(a *answer) error {
		if err := http.NewResponseController(a.ResponseWriter).EnableFullDuplex(); err != nil {
			return errs.Wrap(err, "answer while the upload goes on")
		}
		err := withProgress(ctx, true, func(ctx context.Context, report func(brig.Progress)) error {
			return s.Imports.Import(ctx, p, body, report)
		})(a)
		io.CopyN(io.Discard, body, maxDrain) // its error is that the client has gone
		return err
	}, nil
}
