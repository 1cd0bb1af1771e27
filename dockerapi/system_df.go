package dockerapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/volume"

	"github.com/brigd/brig/internal/errs"
)

// diskUsageDoc is /system/df up to 1.51. What wasn't asked for is null.
type diskUsageDoc struct {
	LayersSize  int64
	Images      []imageSummary
	Containers  []listRow
	Volumes     []volume.Volume
	BuildCache  []buildCacheDoc
	BuilderSize *int64 `json:",omitempty"` // before 1.42
}

func (s *Server) diskUsage(ctx context.Context, r *request) (response, error) {
	types := r.query["type"]
	for _, t := range types {
		if !slices.Contains([]string{"container", "image", "volume", "build-cache"}, t) {
			return nil, errs.New(errs.Invalid, "unknown object type: %s", t)
		}
	}
	wants := func(t string) bool { return len(types) == 0 || r.version < 42 || slices.Contains(types, t) }
	var d diskUsageDoc
	var err error
	if wants("image") {
		err = s.imageUsage(ctx, r.version, &d)
	}
	if err == nil && wants("container") {
		d.Containers, err = s.containerUsage(ctx, r.version)
	}
	if err == nil && wants("volume") {
		d.Volumes, err = s.volumeUsage(ctx)
	}
	if err == nil && wants("build-cache") {
		err = s.buildUsage(ctx, r.version, &d)
	}
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, d), nil
}

func (s *Server) imageUsage(ctx context.Context, v Version, d *diskUsageDoc) error {
	all, err := s.Images.ImageList(ctx)
	if err != nil {
		return err
	}
	d.LayersSize, d.Images = layersSize(all), []imageSummary{}
	uses := layerUses(all)
	for _, i := range all {
		m := newImageSummary(v, i, uses)
		m.Containers = int64(i.Containers) // here in every version
		d.Images = append(d.Images, m)
	}
	return nil
}

func (s *Server) volumeUsage(ctx context.Context) ([]volume.Volume, error) {
	all, err := s.Volumes.VolumeList(ctx)
	if err != nil {
		return nil, err
	}
	uses, err := s.volumeUses(ctx)
	if err != nil {
		return nil, err
	}
	out := []volume.Volume{}
	for _, v := range all {
		d := newVolume(v)
		d.UsageData = &volume.UsageData{RefCount: int64(uses[v.Name]), Size: s.volumeSize(ctx, v.Name)}
		out = append(out, d)
	}
	return out, nil
}

func (s *Server) containerUsage(ctx context.Context, v Version) ([]listRow, error) {
	all, err := s.Containers.List(ctx)
	if err != nil {
		return nil, err
	}
	return s.listRows(ctx, all, true, v)
}
