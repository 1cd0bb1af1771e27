package dockerapi

import (
	"context"

	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// manifests lists what a name means for each platform, if the client asks for that and it means several (manifests=1, API 1.48). brig keeps each as an
// image of its own: its ID here is the image's, by which it can be asked for. Only what has been unpacked has a size.
func (s *Server) manifests(ctx context.Context, r *request) ([]image.ManifestSummary, error) {
	if !r.flag("manifests") || r.version < 48 {
		return nil, nil
	}
	if r.query.Get("platform") != "" && r.version >= 49 {
		return nil, errs.New(errs.Invalid, "conflicting options: manifests and platform options cannot both be set")
	}
	all, err := s.Variants.ImageForEach(ctx, r.vars["name"])
	if err != nil || len(all) < 2 {
		return nil, err
	}
	list, err := s.Containers.List(ctx)
	if err != nil {
		return nil, err
	}
	users := map[brig.Digest][]string{}
	for _, c := range list {
		users[c.Image] = append(users[c.Image], string(c.ID))
	}
	var out []image.ManifestSummary
	for _, i := range all {
		m := image.ManifestSummary{
			ID: string(i.ID), Available: true, Kind: image.ManifestKindImage,
			Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(i.Manifest), Platform: platformOf(i.Platform)},
			ImageData:  &image.ImageProperties{Platform: *platformOf(i.Platform), Containers: nonNil(users[i.ID])},
		}
		m.ImageData.Size.Unpacked, m.Size.Total = i.Size, i.Size
		out = append(out, m)
	}
	return out, nil
}

func platformOf(p brig.Platform) *ocispec.Platform {
	return &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}
