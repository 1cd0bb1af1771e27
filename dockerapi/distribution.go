package dockerapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
)

// distribution says what a registry has under a name.
func (s *Server) distribution(ctx context.Context, r *request) (response, error) {
	name := r.vars["name"]
	if _, err := parseImageRef(name, ""); err != nil {
		return nil, err
	}
	d, err := s.Distributions.Describe(ctx, name, authFromHeader(r.Header.Get(registry.AuthHeader)))
	if err != nil {
		return nil, err
	}
	var out registry.DistributionInspect
	out.Descriptor.MediaType, out.Descriptor.Digest, out.Descriptor.Size = d.Descriptor.MediaType, digest.Digest(d.Descriptor.Digest), d.Descriptor.Size
	out.Platforms = slices.Grow(out.Platforms, len(d.Platforms))[:len(d.Platforms)]
	for n, p := range d.Platforms {
		out.Platforms[n].OS, out.Platforms[n].Architecture, out.Platforms[n].Variant = p.OS, p.Architecture, p.Variant
	}
	return asJSON(http.StatusOK, out), nil
}
