package dockerapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/moby/moby/api/types/volume"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func (s *Server) volumeRoutes() []route {
	return []route{
		{"GET", "/volumes", s.volumeList, 24},
		{"POST", "/volumes/create", s.volumeCreate, 24},
		{"POST", "/volumes/prune", s.volumePrune, 25},
		{"GET", "/volumes/{name:.*}", s.volumeInspect, 24},
		{"PUT", "/volumes/{name:.*}", s.notSwarmManager, 42},
		{"DELETE", "/volumes/{name:.*}", s.volumeRemove, 24},
	}
}

func newVolume(v *brig.Volume) volume.Volume {
	driver := v.Driver
	if driver == "" {
		driver = "local"
	}
	return volume.Volume{Name: v.Name, Driver: driver, Mountpoint: v.Mountpoint, CreatedAt: v.Created, Scope: "local", Labels: v.Labels, Options: v.Options}
}

func (s *Server) volumeList(ctx context.Context, r *request) (response, error) {
	f, err := r.filters("dangling", "driver", "label", "name")
	if err != nil {
		return nil, err
	}
	dangling, byDangling, err := f.boolean("dangling")
	if err != nil {
		return nil, err
	}
	all, err := s.Volumes.VolumeList(ctx)
	if err != nil {
		return nil, err
	}
	uses, err := s.volumeUses(ctx)
	if err != nil {
		return nil, err
	}
	out := volume.ListResponse{Volumes: []volume.Volume{}}
	for _, v := range all {
		d := newVolume(v)
		match := f.exact("driver", d.Driver) && f.labels("label", d.Labels) &&
			f.pattern("name", d.Name) &&
			(!byDangling || dangling == (uses[d.Name] == 0))
		if match {
			out.Volumes = append(out.Volumes, d)
		}
	}
	return asJSON(http.StatusOK, out), nil
}

// volumeUses counts for each volume the containers that name it, running or not.
func (s *Server) volumeUses(ctx context.Context) (map[string]int, error) {
	all, err := s.Containers.List(ctx)
	if err != nil {
		return nil, err
	}
	uses := map[string]int{}
	for _, c := range all {
		seen := map[string]bool{}
		for _, m := range c.Mounts {
			if m.Type == brig.MountVolume && !seen[m.Name] {
				seen[m.Name] = true
				uses[m.Name]++
			}
		}
	}
	return uses, nil
}

func (s *Server) volumeCreate(ctx context.Context, r *request) (response, error) {
	var q volume.CreateRequest
	if err := r.decode(&q); err != nil {
		return nil, err
	}
	if q.ClusterVolumeSpec != nil {
		return nil, errNotSwarmManager()
	}
	if len(q.Name) == 1 {
		return nil, invalid("create %s: volume name is too short, names should be at least two alphanumeric characters", q.Name)
	}
	v, err := s.Volumes.VolumeCreate(ctx, brig.VolumeSpec{Name: q.Name, Driver: q.Driver, Options: q.DriverOpts, Labels: q.Labels})
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusCreated, newVolume(v)), nil
}

func (s *Server) volumeInspect(ctx context.Context, r *request) (response, error) {
	v, err := s.Volumes.VolumeGet(ctx, r.vars["name"])
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, newVolume(v)), nil
}

func (s *Server) volumeRemove(ctx context.Context, r *request) (response, error) {
	if err := s.Volumes.VolumeRemove(ctx, r.vars["name"], r.flag("force")); err != nil {
		return nil, err
	}
	return noBody(http.StatusNoContent), nil
}

// volumePrune removes volumes that no container uses: anonymous ones, or with all=true, and before 1.42 always, named ones too.
func (s *Server) volumePrune(ctx context.Context, r *request) (response, error) {
	f, err := r.filters("label", "label!", "all")
	if err != nil {
		return nil, err
	}
	named, set, err := f.boolean("all")
	if err != nil {
		return nil, err
	}
	if !set && r.version < 42 {
		named = true
	}
	all, err := s.Volumes.VolumeList(ctx)
	if err != nil {
		return nil, err
	}
	uses, err := s.volumeUses(ctx)
	if err != nil {
		return nil, err
	}
	report := volume.PruneReport{VolumesDeleted: []string{}}
	for _, v := range all {
		if uses[v.Name] > 0 || (!v.Anonymous && !named) || !f.labelsMatch(v.Labels) {
			continue
		}
		held := s.volumeSize(ctx, v.Name)
		switch err := s.Volumes.VolumeRemove(ctx, v.Name, false); {
		case err == nil:
			report.VolumesDeleted = append(report.VolumesDeleted, v.Name)
			report.SpaceReclaimed += uint64(max(0, held))
		case !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.NotFound): // come into use meanwhile, or gone
			return nil, err
		}
	}
	s.pruned("volume", report.SpaceReclaimed)
	return asJSON(http.StatusOK, report), nil
}

// volumeSize is what a volume holds, in bytes; -1, "not available" as the API has it, if that can't be found out.
func (s *Server) volumeSize(ctx context.Context, name string) int64 {
	size, err := s.Volumes.VolumeSize(ctx, name)
	if err != nil {
		s.log.Warn("a volume's size can't be found out", "volume", name, "err", err)
		return -1
	}
	return size
}

// pruned publishes the event of a prune; reclaimed is in bytes.
func (s *Server) pruned(what string, reclaimed uint64) {
	s.System.Publish(brig.Event{Type: what, Action: "prune", Attributes: map[string]string{"reclaimed": strconv.FormatUint(reclaimed, 10)}})
}
