package dockerapi

import (
	"context"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/registry"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// imageCreate is docker pull, and docker import.
func (s *Server) imageCreate(ctx context.Context, r *request) (response, error) {
	platform, err := s.platform(r)
	if err != nil {
		return nil, err
	}
	from := r.query.Get("fromImage")
	if from == "" {
		return s.imageImport(ctx, r, platform)
	}
	ref, err := parseImageRef(from, r.query.Get("tag"))
	if err != nil {
		return nil, err
	}
	if err := r.drain(); err != nil {
		return nil, err
	}
	p := brig.PullRequest{
		Name: ref.name, Tag: ref.tag, All: ref.tag == "", Platform: platform, // neither tag nor digest: all tags, as docs/api has it
		Auth: authFromHeader(r.Header.Get(registry.AuthHeader)),
	}
	return withProgress(ctx, true, func(ctx context.Context, report func(brig.Progress)) error {
		err := s.Transfers.Pull(ctx, p, report)
		if errs.Is(err, errs.Unauthorized) || errs.Is(err, errs.Unavailable) {
			err = errs.As(errs.Internal, err) // dockerd's 500 for both: upon a 401 the docker command asks for a password, even in a script
		}
		return err
	}), nil
}

// maxDrain is how much of a refused upload is read away, in bytes, so that the client gets to read why instead of a broken pipe.
const maxDrain = 256 << 20

func (s *Server) imageLoad(ctx context.Context, r *request) (response, error) {
	want, err := r.platformDoc(48)
	if err != nil {
		return nil, err
	}
	platform := ""
	if want != nil {
		platform = want.Normal().String()
	}
	body := r.Body
	return func(a *answer) error {
		if err := http.NewResponseController(a.ResponseWriter).EnableFullDuplex(); err != nil {
			return errs.Wrap(err, "answer while the upload goes on")
		}
		err := withProgress(ctx, !r.flag("quiet"), func(ctx context.Context, report func(brig.Progress)) error {
			return s.Transfers.Load(ctx, body, platform, report)
		})(a)
		io.CopyN(io.Discard, body, maxDrain) // its error is that the client has gone
		return err
	}, nil
}

func (s *Server) imageSave(ctx context.Context, r *request) (response, error) {
	return s.save(ctx, r, []string{r.vars["name"]})
}

func (s *Server) imageSaveMany(ctx context.Context, r *request) (response, error) {
	return s.save(ctx, r, r.query["names"])
}

func (s *Server) save(ctx context.Context, r *request, refs []string) (response, error) {
	if len(refs) == 0 {
		return nil, errs.New(errs.Invalid, "no image names given")
	}
	refs, err := s.onPlatform(ctx, r, 48, refs...)
	if err != nil {
		return nil, err
	}
	return asStream("application/x-tar", func(w io.Writer) error { return s.Transfers.Save(ctx, refs, w) }), nil
}
