package dockerapi

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/brigd/brig/internal/brig"
)

// A listing says which containers a list shows.
type listing struct {
	f               filters
	limit           int // 0 and less: none
	all             bool
	before, since   brig.ID // "": not asked for
	images          map[brig.Digest]bool
	exited          []int
	tasks           bool // of Swarm, which brig has none of
	publish, expose map[string]bool
}

// newListing looks up what the filters name. Values that make no sense are Invalid; a container that is not there is NotFound.
func (s *Server) newListing(ctx context.Context, f filters, limit int, all bool) (*listing, error) {
	l := &listing{f: f, limit: limit, all: all || f.has("status")}
	for _, v := range f["status"] {
		if _, err := brig.ParseState(v); err != nil {
			return nil, invalid("invalid filter 'status=%s'", v)
		}
	}
	for _, v := range f["health"] {
		switch container.HealthStatus(v) {
		case container.NoHealthcheck, container.Starting, container.Healthy, container.Unhealthy:
		default:
			return nil, invalid("invalid filter 'health=%s'", v)
		}
	}
	for _, v := range f["exited"] {
		code, err := strconv.Atoi(v)
		if err != nil {
			return nil, invalid("invalid filter 'exited=%s': %w", v, err)
		}
		l.exited = append(l.exited, code)
	}
	var err error
	if l.tasks, _, err = f.boolean("is-task"); err != nil {
		return nil, err
	}
	for key, to := range map[string]*brig.ID{"before": &l.before, "since": &l.since} {
		for _, ref := range f[key] {
			c, err := s.Containers.Get(ctx, ref)
			if err != nil {
				return nil, err
			}
			*to = c.ID
		}
	}
	if l.publish, err = portFilter(f, "publish"); err != nil {
		return nil, err
	}
	if l.expose, err = portFilter(f, "expose"); err != nil {
		return nil, err
	}
	l.images, err = s.ancestors(ctx, f)
	return l, err
}

// portFilter reads PORT[-END][/PROTO].
func portFilter(f filters, key string) (map[string]bool, error) {
	ports := map[string]bool{}
	for _, v := range f[key] {
		if strings.Contains(v, ":") {
			return nil, invalid("filter for '%s' should not contain ':': %s", key, v)
		}
		r, err := network.ParsePortRange(v)
		if err != nil {
			return nil, invalid("error while looking up for %s %s: %w", key, v, err)
		}
		for p := range r.All() {
			ports[p.String()] = true
		}
	}
	return ports, nil
}

// ancestors returns the images that the filter names and those that stand on one of them: whose layers begin with all of its layers.
// An image that is not there has no descendants.
func (s *Server) ancestors(ctx context.Context, f filters) (map[brig.Digest]bool, error) {
	if !f.has("ancestor") {
		return nil, nil
	}
	all, err := s.Images.ImageList(ctx)
	if err != nil {
		return nil, err
	}
	out := map[brig.Digest]bool{}
	for _, ref := range f["ancestor"] {
		img, err := s.Images.ImageGet(ctx, ref)
		if err != nil {
			continue
		}
		out[img.ID] = true
		chain := img.Chain()
		for _, other := range all {
			if chain != "" && slices.ContainsFunc(other.Layers, func(l brig.Layer) bool { return l.Chain == chain }) {
				out[other.ID] = true
			}
		}
	}
	return out, nil
}

// pick takes containers, newest first, and returns those to show in the same order.
func (l *listing) pick(all []*brig.Container) []*brig.Container {
	var out []*brig.Container
	waiting := l.before != ""
	for _, c := range all {
		if c.ID == l.since && l.since != "" || l.limit > 0 && len(out) == l.limit {
			break
		}
		if !waiting && l.shows(c) {
			out = append(out, c)
		}
		waiting = waiting && c.ID != l.before
	}
	return out
}

func (l *listing) shows(c *brig.Container) bool {
	f := l.f
	switch {
	case !c.State.Active() && !l.all && l.limit <= 0,
		!f.pattern("name", c.Name) && !f.pattern("name", "/"+c.Name),
		!f.pattern("id", string(c.ID)),
		!f.labels("label", c.Spec.Labels),
		!f.exact("status", c.State.String()),
		!f.exact("health", healthOf(c)),
		l.tasks,
		l.images != nil && !l.images[c.Image],
		len(l.exited) > 0 && (c.State.Active() || c.StartedAt.IsZero() || !slices.Contains(l.exited, c.ExitCode)):
		return false
	}
	return l.mounts(c) && l.networks(c) && l.ports(c)
}

// healthOf is the health that a list goes by.
func healthOf(c *brig.Container) string {
	if c.Health == nil {
		return string(container.NoHealthcheck)
	}
	return c.Health.Status
}

// mounts: a volume's name, a bind's source or any destination.
func (l *listing) mounts(c *brig.Container) bool {
	return l.f.anyOf("volume", func(v string) bool {
		return slices.ContainsFunc(c.Mounts, func(m brig.MountPoint) bool {
			return m.Target == v || m.Name == v || m.Name == "" && m.Source == v
		})
	})
}

// networks: a name or the beginning of an ID.
func (l *listing) networks(c *brig.Container) bool {
	return l.f.anyOf("network", func(v string) bool {
		for name, e := range endpointsOf(c, MaxVersion) {
			if name == v || v != "" && strings.HasPrefix(e.NetworkID, v) {
				return true
			}
		}
		return false
	})
}

// ports: one that is published, or one that is exposed.
func (l *listing) ports(c *brig.Container) bool {
	if len(l.publish) == 0 && len(l.expose) == 0 {
		return true
	}
	for _, p := range portSummaries(c) {
		public, private := brig.Port{Number: p.PublicPort, Proto: p.Type}, brig.Port{Number: p.PrivatePort, Proto: p.Type}
		if l.publish[public.String()] || l.expose[private.String()] {
			return true
		}
	}
	return false
}
