package dockerapi

import (
	"context"
	"encoding/json"
	goruntime "runtime"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// platform reads the query parameter of pull, create and import, as a person writes it ("linux/arm64"). The result is in normal form, ""
// if it isn't given.
func (s *Server) platform(r *request) (string, error) {
	asked := r.query.Get("platform")
	if asked == "" {
		return "", nil
	}
	p, err := brig.ReadPlatform(asked, brig.Platform{OS: s.ostype, Architecture: goruntime.GOARCH})
	return p.String(), err
}

// platformDoc is an OCI platform in JSON, as clients from since on send it with requests about an image that is here; nil if it isn't given.
func (r *request) platformDoc(since Version) (*brig.Platform, error) {
	doc := r.query.Get("platform")
	if doc == "" || r.version < since {
		return nil, nil
	}
	var p struct{ OS, Architecture, Variant string }
	if err := json.Unmarshal([]byte(doc), &p); err != nil {
		return nil, errs.New(errs.Invalid, "failed to parse platform: %w", err)
	}
	if p.OS == "" || p.Architecture == "" {
		return nil, errs.New(errs.Invalid, "invalid platform %s: both OS and Architecture must be provided", doc)
	}
	out := brig.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	if _, err := brig.ReadPlatform(out.String(), out); err != nil {
		return nil, errs.Wrap(err, "invalid platform")
	}
	return &out, nil
}

// onPlatform returns refs as they stand, or the ID of what one means for the platform that the request asks for if it means something else to others.
func (s *Server) onPlatform(ctx context.Context, r *request, since Version, refs ...string) ([]string, error) {
	want, err := r.platformDoc(since)
	if err != nil || want == nil {
		return refs, err
	}
	out := make([]string, len(refs))
	for n, ref := range refs {
		first, err := s.Images.ImageGet(ctx, ref)
		if err != nil {
			return nil, err
		}
		i, err := s.Variants.ImageFor(ctx, ref, want.String())
		if err != nil {
			return nil, err
		}
		if out[n] = ref; i.ID != first.ID {
			out[n] = string(i.ID)
		}
	}
	return out, nil
}
