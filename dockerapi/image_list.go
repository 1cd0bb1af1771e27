package dockerapi

import (
	"context"
	"net/http"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// imageSummary is moby's Summary with what older clients read.
type imageSummary struct {
	image.Summary
	VirtualSize *int64 `json:",omitempty"` // before 1.44
}

// imageList has no use for the parameter all: brig keeps no intermediate images.
func (s *Server) imageList(ctx context.Context, r *request) (response, error) {
	f, err := r.filters("dangling", "label", "before", "since", "reference", "until")
	if err != nil {
		return nil, err
	}
	if old := r.query.Get("filter"); old != "" && r.version < 41 {
		f["reference"] = append(f["reference"], old)
	}
	want, err := s.imageFilter(ctx, f)
	if err != nil {
		return nil, err
	}
	all, err := s.Images.ImageList(ctx)
	if err != nil {
		return nil, err
	}
	var shared map[brig.Digest]int
	if r.flag("shared-size") {
		shared = layerUses(all)
	}
	out := []imageSummary{}
	for _, i := range all {
		if want(&i) {
			out = append(out, newImageSummary(r.version, i, shared))
		}
	}
	return asJSON(http.StatusOK, out), nil
}

// imageFilter returns a function that reports whether an image is wanted. With a reference filter it also leaves only the names
// that match, as dockerd does.
func (s *Server) imageFilter(ctx context.Context, f filters) (func(*brig.ImageInfo) bool, error) {
	dangling, byDangling, err := f.boolean("dangling")
	if err != nil {
		return nil, err
	}
	before, since, err := s.imageBounds(ctx, f)
	if err != nil {
		return nil, err
	}
	for _, p := range f["reference"] {
		if _, err := reference.FamiliarMatch(p, anyRef{}); err != nil {
			return nil, errs.New(errs.Invalid, "invalid filter 'reference=%s': %w", p, err)
		}
	}
	return func(i *brig.ImageInfo) bool {
		if (!before.IsZero() && !i.Created.Before(before)) || (!since.IsZero() && !i.Created.After(since)) {
			return false
		}
		if !f.labels("label", i.Config.Labels) {
			return false
		}
		if f.has("reference") {
			i.Tags, i.Digests = matching(f["reference"], i.Tags), matching(f["reference"], i.Digests)
			if len(i.Tags)+len(i.Digests) == 0 {
				return false
			}
		}
		return !byDangling || dangling == (len(i.Tags) == 0)
	}, nil
}

// imageBounds returns the earliest of the images named by before and of the time until, and the latest of those named by since.
func (s *Server) imageBounds(ctx context.Context, f filters) (before, since time.Time, err error) {
	for _, ref := range f["before"] {
		i, err := s.Images.ImageGet(ctx, ref)
		if err != nil {
			return before, since, err
		}
		before = earlier(before, i.Created)
	}
	for _, ref := range f["since"] {
		i, err := s.Images.ImageGet(ctx, ref)
		if err != nil {
			return before, since, err
		}
		if i.Created.After(since) {
			since = i.Created
		}
	}
	for _, u := range f["until"] {
		t, err := parseTime(u, time.Now())
		if err != nil {
			return before, since, err
		}
		before = earlier(before, t)
	}
	return before, since, nil
}

// earlier returns the earlier of two times; zero is unset.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// anyRef lets a pattern be checked without an image.
type anyRef struct{}

func (anyRef) String() string { return "x" }

func matching(patterns, names []string) []string {
	var out []string
	for _, n := range names {
		ref, err := reference.ParseAnyReference(n)
		if err != nil {
			continue
		}
		for _, p := range patterns {
			if ok, err := reference.FamiliarMatch(p, ref); err == nil && ok {
				out = append(out, n)
				break
			}
		}
	}
	return out
}

// layerUses counts for each chain the images that stand on it.
func layerUses(all []brig.ImageInfo) map[brig.Digest]int {
	uses := map[brig.Digest]int{}
	for _, i := range all {
		for _, l := range i.Layers {
			uses[l.Chain]++
		}
	}
	return uses
}

// newImageSummary makes one line of docker images. shared is layerUses' result, or nil if sizes of shared layers aren't wanted.
func newImageSummary(v Version, i brig.ImageInfo, shared map[brig.Digest]int) imageSummary {
	m := imageSummary{Summary: image.Summary{
		ID: string(i.ID), Labels: i.Config.Labels, Containers: -1, SharedSize: -1, Size: i.Size,
		RepoTags: nonNil(i.Tags), RepoDigests: nonNil(i.Digests),
	}}
	if !i.Created.IsZero() {
		m.Created = i.Created.Unix()
	}
	if v >= 51 {
		m.Containers = int64(i.Containers)
	}
	if v < 44 {
		m.VirtualSize = &i.Size
	}
	if v < 43 && len(i.Tags)+len(i.Digests) == 0 {
		m.RepoTags, m.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
	if shared != nil {
		m.SharedSize = 0
		for _, l := range i.Layers {
			if shared[l.Chain] > 1 {
				m.SharedSize += l.Size
			}
		}
	}
	return m
}

// layersSize is what all images' layers take, each counted once.
func layersSize(all []brig.ImageInfo) (sum int64) {
	seen := map[brig.Digest]bool{}
	for _, i := range all {
		for _, l := range i.Layers {
			if !seen[l.Chain] {
				seen[l.Chain] = true
				sum += l.Size
			}
		}
	}
	return sum
}

// imagePrune removes untagged images that no container uses; with dangling=false all that no container uses.
func (s *Server) imagePrune(ctx context.Context, r *request) (response, error) {
	f, err := r.filters("dangling", "label", "label!", "until")
	if err != nil {
		return nil, err
	}
	dangling, set, err := f.boolean("dangling")
	if err != nil {
		return nil, err
	}
	until, err := f.single("until")
	if err != nil {
		return nil, err
	}
	bound, err := parseTime(until, time.Now())
	if err != nil {
		return nil, err
	}
	all, err := s.Images.ImageList(ctx)
	if err != nil {
		return nil, err
	}
	report := image.PruneReport{}
	for _, i := range all {
		keep := i.Containers > 0 || (len(i.Tags) > 0 && (dangling || !set)) || !f.labelsMatch(i.Config.Labels) ||
			(!bound.IsZero() && !i.Created.Before(bound))
		if keep {
			continue
		}
		gone, err := s.removeWhole(ctx, i)
		report.ImagesDeleted = append(report.ImagesDeleted, gone...)
		if err != nil {
			return nil, err
		}
	}
	left, err := s.Images.ImageList(ctx)
	if err != nil {
		return nil, err
	}
	report.SpaceReclaimed = uint64(max(0, layersSize(all)-layersSize(left)))
	s.pruned("image", report.SpaceReclaimed)
	return asJSON(http.StatusOK, report), nil
}

// removeWhole removes an image by each of its names. One that has come into use meanwhile, or has gone, is passed over.
func (s *Server) removeWhole(ctx context.Context, i brig.ImageInfo) ([]image.DeleteResponse, error) {
	refs := i.Tags
	if len(refs) == 0 {
		refs = []string{string(i.ID)}
	}
	var out []image.DeleteResponse
	for _, ref := range refs {
		gone, err := s.Images.ImageRemove(ctx, ref, false, false)
		if err != nil && !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.NotFound) {
			return out, err
		}
		for _, d := range gone {
			out = append(out, image.DeleteResponse{Untagged: d.Untagged, Deleted: d.Deleted})
		}
	}
	return out, nil
}
