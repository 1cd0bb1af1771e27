package registry

import (
	"context"
	"encoding/json"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Describe says what ref names in its registry, an index or a manifest, and for which platforms it is. Kinds as Resolve's, and Forbidden if the
// registry says so; a refusal is in its words, as in dockerd's answers.
func (r *Registry) Describe(ctx context.Context, ref string, auth brig.Auth) (*brig.Distribution, error) {
	named, s, top, err := r.open(ctx, ref, auth)
	if err != nil {
		return nil, err
	}
	out := &brig.Distribution{Descriptor: brig.Descriptor{MediaType: top.mediaType, Digest: brig.DigestOf(top.bytes), Size: int64(len(top.bytes))}}
	if top.isIndex() {
		for _, e := range top.parsed.Manifests {
			if e.Platform != nil {
				out.Platforms = append(out.Platforms, brig.Platform{OS: e.Platform.OS, Architecture: e.Platform.Architecture, Variant: e.Platform.Variant})
			}
		}
		return out, nil
	}
	m, err := parseManifest(top)
	if err != nil {
		return nil, errs.Wrap(err, "manifest of %s", reference.FamiliarString(named))
	}
	config, err := s.config(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	var p brig.Platform
	if err := json.Unmarshal(config, &p); err != nil {
		return nil, errs.New(errs.Invalid, "config of %s: %w", reference.FamiliarString(named), err)
	}
	if p.OS != "" || p.Architecture != "" {
		out.Platforms = []brig.Platform{p}
	}
	return out, nil
}
