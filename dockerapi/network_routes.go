package dockerapi

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/network"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func (s *Server) networkRoutes() []route {
	return []route{
		{"GET", "/networks", s.networkList, 24},
		{"GET", "/networks/", s.networkList, 24},
		{"POST", "/networks/create", s.networkCreate, 24},
		{"POST", "/networks/prune", s.networkPrune, 25},
		{"GET", "/networks/{id:.+}", s.networkInspect, 24},
		{"POST", "/networks/{id:.*}/connect", s.networkConnect, 24},
		{"POST", "/networks/{id:.*}/disconnect", s.networkDisconnect, 24},
		{"DELETE", "/networks/{id:.*}", s.networkRemove, 24},
	}
}

func (s *Server) networkList(ctx context.Context, r *request) (response, error) {
	f, err := r.filters("dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return nil, err
	}
	dangling, byDangling, err := f.boolean("dangling")
	if err != nil {
		return nil, err
	}
	for _, t := range f["type"] {
		if t != "builtin" && t != "custom" {
			return nil, errs.New(errs.Invalid, "invalid filter: 'type'='%s'", t)
		}
	}
	all, err := s.Networks.List(ctx)
	if err != nil {
		return nil, err
	}
	containers, err := s.Containers.List(ctx)
	if err != nil {
		return nil, err
	}
	out := []network.Inspect{}
	for _, n := range all {
		kind := "custom"
		if brig.Predefined(n.Name) {
			kind = "builtin"
		}
		members := endpoints(containers, n)
		match := f.exact("driver", n.Driver) && f.pattern("id", string(n.ID)) && f.labels("label", n.Labels) &&
			f.pattern("name", n.Name) && f.exact("scope", "local") && f.exact("type", kind) &&
			(!byDangling || dangling == (len(members) == 0 && kind == "custom"))
		if !match {
			continue
		}
		if r.version >= 28 {
			members = map[string]network.EndpointResource{} // only inspect lists them since
		}
		out = append(out, newNetwork(n, members))
	}
	return asJSON(http.StatusOK, out), nil
}

// endpoints returns the running containers in n, by ID.
func endpoints(all []*brig.Container, n brig.Network) map[string]network.EndpointResource {
	out := map[string]network.EndpointResource{}
	for _, c := range all {
		e, ok := c.Endpoints[n.Name]
		if !ok || !c.State.HasProcess() {
			continue
		}
		r := network.EndpointResource{Name: c.Name, EndpointID: string(e.EndpointID), IPv4Address: e.Addr4, IPv6Address: e.Addr6}
		if err := r.MacAddress.UnmarshalText([]byte(e.MAC)); err != nil {
			r.MacAddress = nil // a network without hardware addresses
		}
		out[string(c.ID)] = r
	}
	return out
}

func newNetwork(n brig.Network, members map[string]network.EndpointResource) network.Inspect {
	d := network.Inspect{
		Network: network.Network{
			Name: n.Name, ID: string(n.ID), Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: !n.NoIPv4, EnableIPv6: n.IPv6,
			Internal: n.Internal, Attachable: n.Attachable, ConfigOnly: n.ConfigOnly, ConfigFrom: network.ConfigReference{Network: n.ConfigFrom},
			Options: nonNilMap(n.Options), Labels: nonNilMap(n.Labels),
			IPAM: network.IPAM{Driver: "default", Options: n.IPAMOptions, Config: []network.IPAMConfig{}},
		},
		Containers: members,
	}
	subnets := slices.Clone(n.Subnets)
	slices.SortStableFunc(subnets, func(a, b brig.Subnet) int { return cmp.Compare(a.Prefix.Addr().BitLen(), b.Prefix.Addr().BitLen()) }) // IPv4's first
	for _, sub := range subnets {
		c := network.IPAMConfig{Subnet: sub.Prefix, Gateway: sub.Gateway, IPRange: sub.Range, AuxAddress: sub.Aux}
		if sub.AutoGateway && !sub.Auto {
			c.Gateway = netip.Addr{} // dockerd shows what was asked for where something was
		}
		d.IPAM.Config = append(d.IPAM.Config, c)
	}
	return d
}

func nonNilMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (s *Server) networkInspect(ctx context.Context, r *request) (response, error) {
	if scope := r.query.Get("scope"); scope != "" && scope != "local" {
		return nil, errs.New(errs.NotFound, "network %s not found", r.vars["id"])
	}
	n, err := s.Networks.Lookup(ctx, r.vars["id"])
	if err != nil {
		return nil, err
	}
	all, err := s.Containers.List(ctx)
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, newNetwork(n, endpoints(all, n))), nil
}

func (s *Server) networkCreate(ctx context.Context, r *request) (response, error) {
	var q network.CreateRequest
	if err := r.decode(&q); err != nil {
		return nil, err
	}
	if q.Driver == "overlay" || q.Scope == "swarm" || q.Scope == "global" || q.Ingress {
		return nil, errNotSwarmManager()
	}
	w, err := translateNetwork(&q)
	if err != nil {
		return nil, err
	}
	id, err := s.Memberships.NetworkCreate(ctx, w)
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusCreated, network.CreateResponse{ID: string(id)}), nil
}

// translateNetwork makes a network of a request. What is wrong with it, only the engine knows.
func translateNetwork(q *network.CreateRequest) (brig.Network, error) {
	w := brig.Network{Name: q.Name, Driver: q.Driver, Internal: q.Internal, Attachable: q.Attachable, ConfigOnly: q.ConfigOnly, Options: q.Options, Labels: q.Labels}
	if q.Scope != "" && q.Scope != "local" {
		return w, invalid("invalid scope %q: there is local alone", q.Scope)
	}
	if q.ConfigFrom != nil {
		w.ConfigFrom = q.ConfigFrom.Network
	}
	w.NoIPv4 = q.EnableIPv4 != nil && !*q.EnableIPv4
	w.IPv6 = q.EnableIPv6 != nil && *q.EnableIPv6
	if q.IPAM == nil {
		return w, nil
	}
	if q.IPAM.Driver != "" && q.IPAM.Driver != "default" {
		return w, errs.New(errs.NotFound, "plugin %q not found", q.IPAM.Driver)
	}
	w.IPAMOptions = q.IPAM.Options
	for _, c := range q.IPAM.Config {
		w.Subnets = append(w.Subnets, brig.Subnet{Prefix: c.Subnet, Gateway: c.Gateway, Range: c.IPRange, Aux: c.AuxAddress})
	}
	return w, nil
}

func (s *Server) networkConnect(ctx context.Context, r *request) (response, error) {
	var raw json.RawMessage
	if err := r.decode(&raw); err != nil {
		return nil, err
	}
	var q network.ConnectRequest
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, errs.New(errs.Invalid, "invalid JSON: %w", err)
	}
	w, err := s.Networks.Lookup(ctx, r.vars["id"])
	if err != nil {
		return nil, err
	}
	var spec brig.EndpointSpec
	if q.EndpointConfig != nil {
		if spec, err = (&translation{minor: int(r.version)}).endpoint(w.Name, q.EndpointConfig); err != nil {
			return nil, err
		}
	}
	return noBody(http.StatusOK), s.Memberships.NetworkConnect(ctx, string(w.ID), q.Container, spec)
}

func (s *Server) networkDisconnect(ctx context.Context, r *request) (response, error) {
	var q network.DisconnectRequest
	if err := r.decode(&q); err != nil {
		return nil, err
	}
	return noBody(http.StatusOK), s.Memberships.NetworkDisconnect(ctx, r.vars["id"], q.Container, q.Force)
}

func (s *Server) networkRemove(ctx context.Context, r *request) (response, error) {
	return noBody(http.StatusNoContent), s.Memberships.NetworkRemove(ctx, r.vars["id"])
}

// networkPrune removes networks that no running container is in. One that resists, or that someone else removes meanwhile, is left out.
func (s *Server) networkPrune(ctx context.Context, r *request) (response, error) {
	due, err := r.pruneFilters()
	if err != nil {
		return nil, err
	}
	all, err := s.Networks.List(ctx)
	if err != nil {
		return nil, err
	}
	var report network.PruneReport
	for _, n := range all {
		if brig.Predefined(n.Name) || n.ConfigOnly || !due(n.Labels, n.Created) {
			continue
		}
		switch err := s.Memberships.NetworkRemove(ctx, string(n.ID)); {
		case ctx.Err() != nil:
			return nil, errs.As(errs.Canceled, ctx.Err())
		case err == nil:
			report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
		case !errs.Is(err, errs.Forbidden) && !errs.Is(err, errs.NotFound):
			s.log.Warn("prune left a network behind", "network", n.Name, "err", err)
		}
	}
	s.pruned("network", 0)
	return asJSON(http.StatusOK, report), nil
}
