package dockerapi

import (
	"context"
	"encoding/json"
	"strings"

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
	if err := s.onPlatform(ctx, r, 46, ref.name+":"+ref.tagOr("latest")); err != nil {
		return nil, err
	}
	if err := r.drain(); err != nil {
		return nil, err
	}
	platform, err := r.platformDoc()
	if err != nil {
		return nil, err
	}
	p := brig.PushRequest{Name: ref.name, Tag: ref.tag, Platform: platform, Auth: authFromHeader(r.Header.Get(registry.AuthHeader))}
	return withProgress(ctx, true, func(ctx context.Context, report func(brig.Progress)) error {
		return s.Pushes.Push(ctx, p, report)
	}), nil
}

// platformDoc reads the parameter platform of API 1.46 and later, a JSON document, as os/arch[/variant]; "" if there is none.
func (r *request) platformDoc() (string, error) {
	doc := r.query.Get("platform")
	if doc == "" || r.version < 46 {
		return "", nil
	}
	var p struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
	}
	if err := json.Unmarshal([]byte(doc), &p); err != nil {
		return "", errs.New(errs.Invalid, "failed to parse platform: %w", err)
	}
	if p.OS == "" || p.Architecture == "" {
		return "", errs.New(errs.Invalid, "invalid platform %s: both OS and Architecture must be provided", doc)
	}
	platform := strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
	return platform, checkPlatform(platform)
}
