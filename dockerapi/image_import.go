package dockerapi

import (
	"context"
	"io"
	"net/http"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// imageImport is docker import of what the client sends. Changes to the config and URLs are refused.
func (s *Server) imageImport(ctx context.Context, r *request) (response, error) {
	q := r.query
	if src := q.Get("fromSrc"); src != "-" {
		return nil, notYet("brig can't fetch what it imports: download %s and import the file", src)
	}
	for _, c := range q["changes"] {
		if c != "" {
			return nil, notYet("brig can't change the config of an import yet: give the command when a container is made")
		}
	}
	p := brig.ImportRequest{Platform: q.Get("platform"), Message: q.Get("message")}
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
