package dockerapi

import (
	"context"

	"github.com/moby/moby/api/types/registry"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// imagePush is docker push; no tag means all tags of the repository. A failure is the last line of the report, as with dockerd.
func (s *Server) imagePush(ctx context.Context, r *request) (response, error) {
	ref, err := parseImageRef(r.vars["name"], r.query.Get("tag"))
	if err != nil {
		return nil, err
	}
	if ref.digest {
		return nil, errs.New(errs.Invalid, "cannot push a digest reference")
	}
	if err := r.drain(); err != nil {
		return nil, err
	}
	platform, err := r.platformDoc(46)
	if err != nil {
		return nil, err
	}
	p := brig.PushRequest{Name: ref.name, Tag: ref.tag, Auth: authFromHeader(r.Header.Get(registry.AuthHeader))}
	if platform != nil {
		p.Platform = platform.String()
	}
	return withProgress(ctx, true, func(ctx context.Context, report func(brig.Progress)) error {
		return s.Pushes.Push(ctx, p, report)
	}), nil
}
