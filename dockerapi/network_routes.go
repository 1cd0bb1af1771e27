package dockerapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

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

// predefined reports whether every Docker host has a network of that name.
func predefined(name string) bool {
	return slices.Contains([]string{"bridge", "host", "none", "default"}, name)
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
		if predefined(n.Name) {
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
			Name: n.Name, ID: string(n.ID), Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: true, EnableIPv6: n.IPv6,
			Internal: n.Internal, Options: nonNilMap(n.Options), Labels: nonNilMap(n.Labels),
			IPAM: network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		},
		Containers: members,
	}
	for _, sub := range n.Subnets {
		d.IPAM.Config = append(d.IPAM.Config, network.IPAMConfig{Subnet: sub.Prefix, Gateway: sub.Gateway, IPRange: sub.Range})
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

func (s *Server) networkCreate(_ context.Context, r *request) (response, error) {
	var q network.CreateRequest
	if err := r.decode(&q); err != nil {
		return nil, err
	}
	switch {
	case strings.TrimSpace(q.Name) == "":
		return nil, errs.New(errs.Invalid, "network name cannot be blank")
	case predefined(q.Name):
		return nil, errs.New(errs.Forbidden, "operation is not permitted on predefined %s network", q.Name)
	case q.Driver == "overlay" || q.Scope == "swarm" || q.Ingress:
		return nil, errNotSwarmManager()
	}
	return nil, notYet("brig can't create networks yet: there are bridge, host and none")
}

func (s *Server) networkConnect(ctx context.Context, r *request) (response, error) {
	var q network.ConnectRequest
	if err := r.decode(&q); err != nil {
		return nil, err
	}
	return s.noMembership(ctx, r.vars["id"], q.Container)
}

func (s *Server) networkDisconnect(ctx context.Context, r *request) (response, error) {
	var q network.DisconnectRequest
	if err := r.decode(&q); err != nil {
		return nil, err
	}
	return s.noMembership(ctx, r.vars["id"], q.Container)
}

// noMembership refuses to change a container's networks, once it is clear that both exist.
func (s *Server) noMembership(ctx context.Context, net, container string) (response, error) {
	if _, err := s.Networks.Lookup(ctx, net); err != nil {
		return nil, err
	}
	if _, err := s.Containers.Get(ctx, container); err != nil {
		return nil, err
	}
	return nil, notYet("brig can't change the networks of a container yet")
}

func (s *Server) networkRemove(ctx context.Context, r *request) (response, error) {
	n, err := s.Networks.Lookup(ctx, r.vars["id"])
	if err != nil {
		return nil, err
	}
	if predefined(n.Name) {
		return nil, errs.New(errs.Forbidden, "%s is a pre-defined network and cannot be removed", n.Name)
	}
	return nil, notYet("brig can't remove networks yet")
}

// networkPrune has nothing to remove while only predefined networks exist. docker system prune asks for it.
func (s *Server) networkPrune(_ context.Context, r *request) (response, error) {
	if _, err := r.filters("label", "label!", "until"); err != nil {
		return nil, err
	}
	s.pruned("network", 0)
	return asJSON(http.StatusOK, network.PruneReport{}), nil
}
