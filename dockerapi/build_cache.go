package dockerapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// buildCacheDoc is a record of the build cache. Parent was there before 1.42, Parents since.
type buildCacheDoc struct {
	ID          string
	Parent      string   `json:",omitempty"`
	Parents     []string `json:",omitempty"`
	Type        string
	Description string
	InUse       bool
	Shared      bool
	Size        int64 // bytes
	CreatedAt   time.Time
	LastUsedAt  *time.Time
	UsageCount  int
}

func newBuildCacheDoc(v Version, e brig.BuildCacheEntry) buildCacheDoc {
	d := buildCacheDoc{
		ID: e.ID, Parents: e.Parents, Type: e.Type, Description: e.Description, InUse: e.InUse, Shared: e.Shared, Size: e.Size, CreatedAt: e.Created,
		UsageCount: e.Count,
	}
	if v < 42 {
		d.Parents = nil
		if len(e.Parents) > 0 {
			d.Parent = e.Parents[0]
		}
	}
	if !e.Used.IsZero() {
		d.LastUsedAt = &e.Used
	}
	return d
}

// buildUsage puts the build cache into d.
func (s *Server) buildUsage(ctx context.Context, v Version, d *diskUsageDoc) error {
	all, err := s.Caches.BuildCache(ctx)
	if err != nil {
		return err
	}
	d.BuildCache = []buildCacheDoc{}
	var size int64
	for _, e := range all {
		d.BuildCache = append(d.BuildCache, newBuildCacheDoc(v, e))
		size += e.Size
	}
	if v < 42 {
		d.BuilderSize = &size
	}
	return nil
}

// buildPrune is docker builder prune, and a part of docker system prune.
func (s *Server) buildPrune(ctx context.Context, r *request) (response, error) {
	if err := r.drain(); err != nil {
		return nil, err
	}
	p, err := r.buildPruneFilters()
	if err != nil {
		return nil, err
	}
	if p.Keep, err = s.buildKeep(ctx, r); err != nil {
		return nil, err
	}
	p.All = r.flag("all")
	got, err := s.Caches.PruneBuilds(ctx, p)
	if err != nil {
		return nil, err
	}
	s.pruned("builder", uint64(got.Freed))
	return asJSON(http.StatusOK, struct {
		CachesDeleted  []string
		SpaceReclaimed uint64
	}{got.IDs, uint64(got.Freed)}), nil
}

// buildPruneFilters reads the filters. Nothing in the cache has labels.
func (r *request) buildPruneFilters() (brig.BuildPruneRequest, error) {
	var p brig.BuildPruneRequest
	f, err := r.filters("until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private", "label", "label!")
	if err != nil {
		return p, err
	}
	for _, name := range []string{"until", "unused-for"} {
		v, err := f.single(name)
		if err != nil {
			return p, err
		}
		before, err := parseTime(v, time.Now())
		if err != nil {
			return p, err
		}
		if !before.IsZero() {
			p.Before = before
		}
	}
	flags := map[string]bool{}
	for _, name := range []string{"inuse", "shared", "private"} {
		if on, given, err := f.boolean(name); err != nil {
			return p, err
		} else if given {
			flags[name] = on
		}
	}
	agrees := func(name string, is bool) bool {
		want, given := flags[name]
		return !given || want == is
	}
	p.Match = func(e *brig.BuildCacheEntry) bool {
		parent := func(want string) bool {
			for _, p := range e.Parents {
				if strings.HasPrefix(p, want) {
					return true
				}
			}
			return false
		}
		return f.prefix("id", e.ID) && f.anyOf("parent", parent) && f.exact("type", e.Type) && f.exact("description", e.Description) && f.labelsMatch(nil) &&
			agrees("inuse", e.InUse) && agrees("shared", e.Shared) && agrees("private", !e.Shared)
	}
	return p, nil
}

// buildKeep is how many bytes of the cache may stay: as many as max-used-space says, less what must go for min-free-space, but no fewer than
// reserved-space, which was keep-storage before 1.48. All are bytes; 0, of all of them: none.
func (s *Server) buildKeep(ctx context.Context, r *request) (int64, error) {
	given := map[string]int64{}
	for _, name := range []string{"keep-storage", "reserved-space", "max-used-space", "min-free-space"} {
		n, err := r.number(name, 0)
		if err != nil || n < 0 {
			return 0, errs.New(errs.Invalid, "%s is in bytes and expects an integer, got %s", name, r.query.Get(name))
		}
		given[name] = int64(n)
	}
	keep, reserved := given["max-used-space"], max(given["keep-storage"], given["reserved-space"])
	if want := given["min-free-space"]; want > 0 {
		free, err := s.System.Free(ctx)
		if err != nil {
			return 0, err
		}
		all, err := s.Caches.BuildCache(ctx)
		if err != nil {
			return 0, err
		}
		var total int64
		for _, e := range all {
			total += e.Size
		}
		switch missing := want - free; {
		case missing > 0 && keep > 0:
			keep = max(0, min(keep, total-missing))
		case missing > 0:
			keep = max(0, total-missing)
		case keep == 0: // there is room enough
			keep = total
		}
	}
	return max(keep, reserved), nil
}
